// Medians of what run.sh measured, as a Markdown table with ratios to Plenum.
'use strict';
const fs = require('node:fs');
const [folder, rounds] = [process.argv[2], Number(process.argv[3])];
const found = {};
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const add = (name, key, value) => {
  if (!Number.isNaN(Number(value))) ((found[name] ??= {})[key] ??= []).push(Number(value));
};

for (const line of fs.readFileSync(`${folder}/lines`, 'utf8').trim().split('\n')) {
  const [name, what, rate, cpu] = line.split(' ');
  if (rate === 'failed') continue;
  add(name, what, rate);
  add(name, `${what}-cpu`, cpu);
}
const figure = (file, scenario, key) => {
  if (!fs.existsSync(file)) return NaN; // was not asked for
  const report = JSON.parse(fs.readFileSync(file, 'utf8'));
  const one = report.findings.find((one) => one.name === scenario)?.figures.find((one) => one.key === key);
  return one ? median(one.rounds) : NaN;
};
for (let round = 1; round <= rounds; round += 1) {
  const one = `${folder}/plenum-${round}/report.json`;
  const together = `${folder}/plenum-together-${round}/report.json`;
  const burst = `${folder}/plenum-burst-${round}/report.json`;
  add('plenum', 'burst-400-1', figure(burst, 'burst', 'ack_p95_ms'));
  add('plenum', 'burst-400-1-cpu', figure(burst, 'burst', 'ack_p99_ms'));
  add('plenum', 'fanout-500-1', figure(one, 'fanout_500', 'deliveries'));
  add('plenum', 'fanout-500-1-cpu', figure(one, 'fanout_500', 'cpu_net'));
  add('plenum', 'fanout-500-16', figure(together, 'fanout_500', 'deliveries'));
  add('plenum', 'fanout-500-16-cpu', figure(together, 'fanout_500', 'cpu_net'));
  add('plenum', 'votes-200-8', figure(one, 'flat_out', 'votes_per_second'));
  add('plenum', 'votes-200-8-cpu', figure(one, 'flat_out', 'server_cpu_us'));
  add('bare write loop', 'fanout-500-1', figure(one, 'fanout_500', 'bare_deliveries'));
  add('bare write loop', 'fanout-500-1-cpu', figure(one, 'fanout_500', 'bare_cpu'));
  add('bare write loop', 'fanout-500-16', figure(together, 'fanout_500', 'bare_deliveries'));
  add('bare write loop', 'fanout-500-16-cpu', figure(together, 'fanout_500', 'bare_cpu'));
  add('pgbench, insert only', 'votes-200-8', figure(one, 'flat_out', 'pgbench_insert'));
}
const columns = [
  ['fanout-500-1', 'deliveries/s, one at a time'], ['fanout-500-1-cpu', 'CPU s/million'],
  ['fanout-500-16', 'deliveries/s, 16 on the way'], ['fanout-500-16-cpu', 'CPU s/million'],
  ['votes-200-1', 'votes/s, one on the way'], ['votes-200-8', 'votes/s, 8 on the way'], ['votes-200-8-cpu', 'server CPU µs/vote'],
  ['burst-400-1', 'burst: ack p95, ms'], ['burst-400-1-cpu', 'burst: ack p99, ms'],
];
console.log(`| server | ${columns.map((one) => one[1]).join(' | ')} |`);
console.log(`| --- |${columns.map(() => ' ---: |').join('')}`);
for (const [name, figures] of Object.entries(found)) {
  const cells = columns.map(([key]) => {
    if (!figures[key]) return '–';
    const value = median(figures[key]);
    const ratio = found.plenum?.[key] && name !== 'plenum' ? ` (${(value / median(found.plenum[key])).toFixed(2)} ×)` : '';
    return `${value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(2)}${ratio}`;
  });
  console.log(`| ${name} | ${cells.join(' | ')} |`);
}
console.log(`\nMedians of ${rounds}; in brackets, as a multiple of Plenum's.`);

// What docs/BENCHMARKS.md holds Plenum to, against the peers of the same run.
const peers = ['axum', 'axum-tuned', 'node'].filter((name) => found[name]);
const best = (key, choose) => choose(...peers.map((name) => median(found[name][key] ?? [NaN])).filter((value) => !Number.isNaN(value)));
const ours = (key) => median(found.plenum[key] ?? [NaN]);
const goals = [
  ['votes/s, at least 10 × the best peer', ours('votes-200-8'), 10 * Math.max(best('votes-200-8', Math.max), best('votes-200-1', Math.max)), (a, b) => a >= b],
  ['burst, ack p95 below the best peer', ours('burst-400-1'), best('burst-400-1', Math.min), (a, b) => a < b],
  ['burst, ack p99 below the best peer', ours('burst-400-1-cpu'), best('burst-400-1-cpu', Math.min), (a, b) => a < b],
].filter(([, value]) => !Number.isNaN(value));
console.log('\n| goal | Plenum | bound | met |\n| --- | ---: | ---: | --- |');
for (const [goal, value, bound, met] of goals) {
  console.log(`| ${goal} | ${value.toFixed(2)} | ${bound.toFixed(2)} | ${met(value, bound) ? 'yes' : '**no**'} |`);
}
process.exitCode = goals.every(([, value, bound, met]) => met(value, bound)) ? 0 : 1;
