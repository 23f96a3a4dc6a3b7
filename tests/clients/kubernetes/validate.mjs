// node validate.mjs CONFIG_OUT METRICS_DOC FILE...: each document of each file against the schema of
// Kubernetes' API, and the names that refer to one another. Writes the ConfigMap's bulkhead.yaml to
// CONFIG_OUT. Exit code 1 when something does not fit.
import fs from 'fs';
import {createRequire} from 'module';

const require = createRequire(import.meta.url);
const yaml = require('js-yaml');
const [out, metricsDoc, ...files] = process.argv.slice(2);
const docs = files.flatMap((f) => yaml.loadAll(fs.readFileSync(f, 'utf8')));
let nBad = 0;

function check(fits, what) {
  if (!fits) {
    console.log(`does not fit: ${what}`);
    nBad++;
  }
}

for (const doc of docs) {
  const [group, version] = doc.apiVersion.includes('/') ? doc.apiVersion.split('/') : ['', doc.apiVersion];

  if (group === 'monitoring.coreos.com')
    continue; // not Kubernetes' own
  const model = require(`kubernetes-models/${group ? group + '/' : ''}${version}/${doc.kind}`);
  try {
    new model[doc.kind](doc).validate();
  } catch (e) {
    check(false, `${doc.kind}: ${e.message}`);
  }
}

const of = (kind) => docs.find((d) => d.kind === kind);
const pod = of('Deployment').spec.template;
const container = pod.spec.containers[0];
const ports = container.ports.map((p) => p.name);
const labels = JSON.stringify(pod.metadata.labels);
const config = of('ConfigMap').data['bulkhead.yaml'];
const parsed = yaml.load(config);

for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe'])
  check(ports.includes(container[probe].httpGet.port), `the port of the ${probe}`);
for (const p of of('Service').spec.ports)
  check(ports.includes(p.targetPort), `the Service's port ${p.targetPort}`);
for (const e of of('PodMonitor').spec.podMetricsEndpoints)
  check(ports.includes(e.port) && e.path === '/metrics', `the PodMonitor's endpoint ${e.port}`);
for (const kind of ['Deployment', 'PodDisruptionBudget', 'PodMonitor'])
  check(JSON.stringify(of(kind).spec.selector.matchLabels) === labels, `the selector of the ${kind}`);
check(of('HorizontalPodAutoscaler').spec.scaleTargetRef.name === of('Deployment').metadata.name,
      'the target of the autoscaler');
for (const m of of('HorizontalPodAutoscaler').spec.metrics.filter((x) => x.type === 'Pods'))
  check(fs.readFileSync(metricsDoc, 'utf8').includes('`' + m.pods.metric.name + '`'),
        `metric ${m.pods.metric.name}: docs/metrics.md has none of that name`);
check(parsed.listeners[0].address.endsWith(':' + container.ports[0].containerPort), 'the public port');
check(parsed.admin.listen.endsWith(':' + container.ports[1].containerPort), 'the port of admin');
for (const v of config.matchAll(/\$\{(\w+)\}/g))
  check(container.env.some((e) => e.name === v[1]), `\${${v[1]}} is not in the container's environment`);
{
  const drain = parseInt(parsed.limits.timeouts.drain);
  const pause = parseInt(container.lifecycle.preStop.exec.command[1]);

  check(pod.spec.terminationGracePeriodSeconds > drain + pause, 'the grace period: no time to drain');
}
fs.writeFileSync(out, config);
process.exit(nBad > 0 ? 1 : 0);
