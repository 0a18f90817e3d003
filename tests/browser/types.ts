// What an embedder writes against plenum.d.ts: compiled, never run. Each line marked as a fault has to be one, so that types that
// let anything pass would be seen. Checked by `npm run types`.

import { Plenum, type Answer, type CastVote, type PlenumState } from '../../src/web/plenum.js';

const plenum = new Plenum({ server: 'https://polls.example', code: '1234 5678' });
const end: () => void = plenum.subscribe((state: PlenumState) => {
  for (const poll of state.polls) {
    const votes: number = state.results[poll.n]?.votes ?? 0;
    const mine: Answer | undefined = state.myVotes[poll.n];
    console.log(poll.question.trim(), poll.options?.join(), votes, mine && 'choices' in mine ? mine.choices[0] : mine?.rating);
  }
  if (state.connection === 'closed' && state.problem === 'deleted') end();
});
plenum.start();
const cast: CastVote = plenum.vote(1, { choices: [0] });
if (cast.state === 'refused') console.log(cast.code?.length);
const digits: string | null = Plenum.code(' 1234-5678');
new Plenum({ session: 'id', token: digits ?? '', storage: sessionStorage, fetch, WebSocket }).stop();

// @ts-expect-error a number alone is no answer
plenum.vote(1, 3);
// @ts-expect-error the state is read only
plenum.state.seq = 1;
// @ts-expect-error there is no such connection
if (plenum.state.connection === 'lost') plenum.stop();
// @ts-expect-error options are needed
new Plenum();
