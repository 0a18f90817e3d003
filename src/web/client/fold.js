// What a client sees of a session, as a fold of the server's messages. Pure: states are never changed, only replaced.
// Used by plenum.js.

/** The state before anything is known. */
export const beginning = () => ({
  connection: 'connecting', transport: null, problem: null, epoch: null, seq: 0,
  session: null, participant: null, participants: 0, polls: [], results: {}, myVotes: {}, votes: {},
});

const byNumber = (a, b) => a.n - b.n;
const isDraft = (poll) => poll.state === 'draft';
const withPoll = (polls, poll) => [...polls.filter((old) => old.n !== poll.n), poll].sort(byNumber);
const newer = (results, one) =>
  one && !(results[one.poll]?.seq > one.seq) ? { ...results, [one.poll]: one } : results;

/**
 * A welcome. Resumed, what we have goes on and the missed events follow; of the presenter's drafts, which make no events,
 * the welcome's are the newest. Otherwise it stands in for all history.
 */
export function welcomed(state, message) {
  const { session, participant, seq, epoch, my_votes: myVotes } = message;
  const next = {
    ...state, connection: 'open', problem: null, epoch, seq,
    participants: session.participants, participant: participant ?? state.participant,
    myVotes: myVotes ?? state.myVotes,
  };
  if (message.resumed) {
    const known = new Set(state.polls.filter((poll) => !isDraft(poll)).map((poll) => poll.n));
    const drafts = message.polls.filter((poll) => !known.has(poll.n) && isDraft(poll));
    return { ...next, polls: [...state.polls.filter((poll) => known.has(poll.n)), ...drafts].sort(byNumber) };
  }
  const results = Object.fromEntries(message.results.map((one) => [one.poll, one]));
  return { ...next, session, results, polls: [...message.polls].sort(byNumber) };
}

/** An event that is the next one on this stream. */
export function happened(state, { seq, kind, data }) {
  const next = { ...state, seq };
  switch (kind) {
    case 'session.updated':
    case 'session.ended':
      return { ...next, session: { ...state.session, ...data } };
    case 'poll.opened': {
      const results = { ...state.results };
      // Open again, counts that were shown after the close are hidden from participants again.
      if (state.participant && data.results !== 'live') delete results[data.n];
      return { ...next, polls: withPoll(state.polls, data), results };
    }
    case 'poll.closed':
      return { ...next, polls: withPoll(state.polls, data.poll), results: newer(state.results, data.results) };
    case 'poll.results':
      return { ...next, results: newer(state.results, data) };
    default:
      return next;
  }
}
