// go_recover is the peer that recovers in another way: Go's net/http behind five Recovery
// middlewares, each a defer and a recover, as one finds them stacked in real services.
// GET / answers; GET /panic dereferences a nil pointer, and the innermost Recovery answers 500.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"runtime"
)

func recovery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			// No logging of stacks here: what is compared is recovering, not writing.
			if recover() != nil {
				w.Header().Set("Content-Type", "text/plain")
				w.WriteHeader(http.StatusInternalServerError)
				io.WriteString(w, "error\n")
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, "hello\n")
}

func crash(w http.ResponseWriter, r *http.Request) {
	var missing *http.Server
	io.WriteString(w, missing.Addr) // nil dereference: a real fault, turned into a panic
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go_recover PORT   (listens on 127.0.0.1 until it is killed)")
	}
	runtime.GOMAXPROCS(1)

	mux := http.NewServeMux()
	mux.HandleFunc("/", hello)
	mux.HandleFunc("/panic", crash)
	var handler http.Handler = mux
	for i := 0; i < 5; i++ {
		handler = recovery(handler)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], handler))
}
