/** Types of /plenum.js. */

export interface Session {
  id: string;
  code: string;
  title: string;
  state: 'scheduled' | 'live' | 'ended';
  created_at: string;
  starts_at?: string;
  expected_participants?: number;
  participants: number;
  last_seq: number;
  join_url: string;
}

export interface Poll {
  /** Its number in the session. */
  n: number;
  kind: 'choice' | 'rating';
  question: string;
  /** Of a choice. */
  options?: string[];
  /** Of a rating: 1. */
  max_choices: number;
  /** Of a rating: answers are 1 to `max`. */
  max?: number;
  /** Who sees counts, and when. */
  results: 'live' | 'after_close' | 'presenter';
  state: 'draft' | 'open' | 'closed';
  opened_at?: string;
  closed_at?: string;
}

export interface Results {
  poll: number;
  seq: number;
  /** How many voted. */
  votes: number;
  counts: number[];
}

export type Answer = { choices: number[] } | { rating: number };

/** What became of a vote that was cast on this device. */
export interface CastVote {
  readonly id: string;
  readonly poll: number;
  readonly answer: Answer;
  /** `sending`: kept here until there is an answer. `counted`: stored, for good. `refused`: not counted; `code` says why. */
  readonly state: 'sending' | 'counted' | 'refused';
  readonly code?: string;
  readonly seq?: number;
}

export interface PlenumState {
  /** `waiting`: lost, coming back by itself. `closed`: stopped, or `problem` says why there is no coming back. */
  readonly connection: 'connecting' | 'open' | 'waiting' | 'closed';
  readonly transport: 'websocket' | 'sse' | null;
  readonly problem: 'protocol' | 'invalid_token' | 'not_found' | 'deleted' | 'rate_limited' | null;
  readonly epoch: string | null;
  /** The highest event seen. */
  readonly seq: number;
  readonly session: Session | null;
  readonly participant: { id: string; token: string } | null;
  /** How many are here. */
  readonly participants: number;
  /** By number; drafts for presenters alone. */
  readonly polls: readonly Poll[];
  /** Of polls whose counts may be seen, by number. */
  readonly results: Readonly<Record<number, Results>>;
  /** What counts, as the server says, by number of the poll. */
  readonly myVotes: Readonly<Record<number, Answer>>;
  /** What was cast here, by number of the poll. */
  readonly votes: Readonly<Record<number, CastVote>>;
}

export interface PlenumOptions {
  /** Left out: where the page comes from. */
  server?: string;
  /** Joins as a participant, or comes back as the one this device was. */
  code?: string;
  /** With `session`: comes back as whoever has this token, participant or presenter. */
  token?: string;
  session?: string;
  /** Left out: localStorage. */
  storage?: Storage;
  WebSocket?: typeof WebSocket;
  fetch?: typeof fetch;
}

export declare class Plenum {
  constructor(options: PlenumOptions);
  /** The eight digits of a join code as people type it, or null. */
  static code(text: string): string | null;
  /** As of now; replaced on every change. */
  readonly state: PlenumState;
  /** Calls `listener` now and after every change; gives the function that ends it. */
  subscribe(listener: (state: PlenumState) => void): () => void;
  /** Connects, and stays connected. */
  start(): void;
  /** Disconnects. Votes that wait stay on the device. */
  stop(): void;
  /** Casts a vote; a vote on its way or counted stands and is returned as it is. */
  vote(poll: number, answer: Answer): CastVote;
}
