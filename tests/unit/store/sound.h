/*
 * sound.h - is the memory store's segment in order?
 */
#ifndef SOUND_H
#define SOUND_H

struct store_memory;

/* Fails the test unless every cell is in exactly one free block or one entry that a chain leads to, and
 * the sums are right. */
void expect_sound(const struct store_memory *memory);

#endif
