-- Schema 8 of Sheaf's replicated state. What a column is called, people are answered by; `body` holds the row exactly
-- (crate store, codec) and wins where the two differ. Times are milliseconds since 1970 (UTC), spans milliseconds,
-- yes and no 1 and 0. Columns said to be JSON hold JSON text.

-- What the rows below were brought up to.
CREATE TABLE meta (
  name  TEXT PRIMARY KEY,              -- revision: of the last command; applied: position in the log, for consensus;
                                       -- events: how many there are; syncs: how often all was made durable;
                                       -- touched: of all job_transitions; pruned, pruned_jobs: the last revision
                                       -- whose events, and whose job_transitions, were dropped for age or number
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('revision', 0), ('events', 0), ('syncs', 0), ('touched', 0);

-- The cluster's identity and settings: at most one row.
CREATE TABLE cluster (
  one               INTEGER PRIMARY KEY CHECK (one = 1),
  id                TEXT,
  epoch             INTEGER NOT NULL,  -- how often it was re-founded
  formed_at         INTEGER NOT NULL,
  voters            TEXT NOT NULL,     -- auto, or a number
  lease_heartbeat   INTEGER NOT NULL,
  lease_ttl         INTEGER NOT NULL,
  lease_kill_margin INTEGER NOT NULL,
  lease_stand_in    INTEGER NOT NULL,
  body              BLOB NOT NULL
) STRICT;

CREATE TABLE nodes (
  id              INTEGER PRIMARY KEY,
  name            TEXT NOT NULL,
  hostname        TEXT NOT NULL,
  address         TEXT NOT NULL,
  status          TEXT NOT NULL,
  since           INTEGER NOT NULL,    -- of the status
  reason          TEXT NOT NULL,       -- of the status
  labels          TEXT NOT NULL,       -- JSON array, of config file and given
  allowed_modules TEXT NOT NULL,       -- JSON array of names and globs; empty: all
  denied_modules  TEXT NOT NULL,       -- JSON array; wins
  version         TEXT NOT NULL,
  cpu             INTEGER NOT NULL,    -- cores
  memory_total    INTEGER NOT NULL,    -- bytes
  registered      INTEGER NOT NULL,    -- revision
  revision        INTEGER NOT NULL,    -- of its last change
  body            BLOB NOT NULL
) STRICT;

CREATE TABLE modules (
  name                TEXT NOT NULL,
  version             TEXT NOT NULL,
  runtime             TEXT NOT NULL,
  supports_multi_node INTEGER NOT NULL,
  revision            INTEGER NOT NULL, -- of its registration
  at                  INTEGER NOT NULL,
  body                BLOB NOT NULL,
  PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts (
  module   TEXT PRIMARY KEY,           -- name@version
  digest   TEXT NOT NULL,              -- SHA-256 of the blob, hexadecimal
  size     INTEGER NOT NULL,           -- of the blob, in bytes
  file     TEXT NOT NULL,              -- the name of the one file that was pushed; empty: a directory
  revision INTEGER NOT NULL,           -- of its registration
  at       INTEGER NOT NULL,
  body     BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE buckets (
  name            TEXT PRIMARY KEY,
  revision        INTEGER NOT NULL,    -- of its last change of any kind
  release         INTEGER NOT NULL,    -- revision that runs; see releases
  next_release    INTEGER,             -- revision being rolled out
  created         INTEGER NOT NULL,    -- revision
  type            TEXT NOT NULL,
  module          TEXT NOT NULL,       -- name@version
  multi_node      INTEGER NOT NULL,
  suspended       INTEGER NOT NULL,
  node_list_rules TEXT NOT NULL,       -- JSON array
  config          TEXT NOT NULL,       -- JSON object
  poll_frequency  INTEGER,
  placement       TEXT NOT NULL,
  on_node_lost    TEXT NOT NULL,
  max_parallel    INTEGER,
  labels          TEXT NOT NULL,       -- JSON object
  owner           TEXT,
  body            BLOB NOT NULL,
  quarantined_until INTEGER,           -- by its module
  emergency       TEXT                 -- why its module had it stopped
) STRICT, WITHOUT ROWID;

-- Affinity of single-node buckets. May outlive its bucket.
CREATE TABLE bindings (
  bucket   TEXT PRIMARY KEY,
  node_id  INTEGER NOT NULL,
  epoch    INTEGER NOT NULL,
  since    INTEGER NOT NULL,
  revision INTEGER NOT NULL,           -- of the bind
  basis    INTEGER NOT NULL,           -- the release it was chosen for
  leaving  TEXT,                       -- why it is to end
  why      TEXT NOT NULL,              -- why this node
  body     BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Nodes that may still run something of an ended multi-node bucket.
CREATE TABLE residues (
  bucket   TEXT PRIMARY KEY,
  node_ids TEXT NOT NULL,              -- JSON array
  body     BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE instances (
  bucket     TEXT NOT NULL,
  node_id    INTEGER NOT NULL,
  phase      TEXT NOT NULL,
  epoch      INTEGER,                  -- single-node only
  revision   INTEGER NOT NULL,         -- the release it runs
  pid        INTEGER,
  started_at INTEGER,
  restarts   INTEGER NOT NULL,
  exit       TEXT,                     -- how it last ended
  message    TEXT NOT NULL,
  body       BLOB NOT NULL,
  PRIMARY KEY (bucket, node_id)
) STRICT, WITHOUT ROWID;

-- Answered requests, to recognise their repetition.
CREATE TABLE requests (
  revision INTEGER PRIMARY KEY,        -- of the command
  id       TEXT NOT NULL,
  at       INTEGER NOT NULL,
  body     BLOB NOT NULL
) STRICT;

-- The revisions of buckets, also of deleted ones, as far back as there are events; of a bucket at least what it is and
-- what it was before. In the order they came, so that writing appends.
CREATE TABLE releases (
  bucket   TEXT NOT NULL,
  revision INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  actor    TEXT NOT NULL,
  module   TEXT NOT NULL,              -- name@version
  body     BLOB NOT NULL,
  PRIMARY KEY (revision, bucket)
) STRICT, WITHOUT ROWID;
CREATE INDEX releases_bucket ON releases (bucket, revision);

-- What happened. The columns are all there is of it.
CREATE TABLE events (
  revision INTEGER NOT NULL,
  n        INTEGER NOT NULL,           -- place among those of that revision
  at       INTEGER NOT NULL,
  kind     TEXT NOT NULL,              -- SUBJECT.VERB
  subject  TEXT NOT NULL,
  actor    TEXT NOT NULL,
  node     TEXT NOT NULL,              -- a name; may be empty
  before   TEXT NOT NULL,
  after    TEXT NOT NULL,
  message  TEXT NOT NULL,
  PRIMARY KEY (revision, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_subject ON events (subject, revision, n);

-- For each hour that has events, the lowest revision among them: finds where to begin reading for a time, since the
-- leaders' clocks only nearly grow with the revision. Some 9,000 rows a year, never removed.
CREATE TABLE event_hours (
  hour     INTEGER PRIMARY KEY,        -- at / 3,600,000
  revision INTEGER NOT NULL
) STRICT;

-- What buckets' modules keep, without the values.
CREATE TABLE objects (
  bucket  TEXT NOT NULL,
  key     TEXT NOT NULL,
  version INTEGER NOT NULL,            -- revision of its last change
  size    INTEGER NOT NULL,            -- bytes of its value
  at      INTEGER NOT NULL,            -- of its last change
  body    BLOB NOT NULL,
  PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

-- The values, apart: they are large, and never read but one by one.
CREATE TABLE object_values (
  bucket TEXT NOT NULL,
  key    TEXT NOT NULL,
  value  BLOB NOT NULL,
  PRIMARY KEY (bucket, key)
) STRICT;

-- Secrets, sealed: only nodes with the cluster's key file can read a value. In no answer to people but by their names.
CREATE TABLE secrets (
  name     TEXT PRIMARY KEY,
  key      TEXT NOT NULL,              -- which key it is sealed with, hexadecimal
  revision INTEGER NOT NULL,           -- of its last change
  at       INTEGER NOT NULL,           -- of its last change
  actor    TEXT NOT NULL,              -- who set it
  body     BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Jobs. The body is what the job was when this was written last; what came since is in job_transitions.
CREATE TABLE jobs (
  id      INTEGER PRIMARY KEY,
  name    TEXT NOT NULL,
  module  TEXT NOT NULL,               -- name@version
  created INTEGER NOT NULL,            -- revision
  count   INTEGER NOT NULL,            -- subtasks
  history INTEGER NOT NULL,            -- transitions from this number on came since
  body    BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX jobs_name ON jobs (name);

-- Which subtasks of a job depend on which.
CREATE TABLE job_dependencies (
  job_id INTEGER PRIMARY KEY,
  body   BLOB NOT NULL
) STRICT;

-- What each command did to the subtasks of a job, in columns.
CREATE TABLE job_transitions (
  job_id   INTEGER NOT NULL,
  number   INTEGER NOT NULL,           -- its place in the job's history, from 0
  revision INTEGER NOT NULL,           -- of the command
  at       INTEGER NOT NULL,
  body     BLOB NOT NULL,
  touched  INTEGER NOT NULL DEFAULT 0, -- subtasks, each as often as it changed
  PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_transitions_age ON job_transitions (revision);

-- Where in a job's history the attempts of its subtasks begin and end, by blocks of 1024 subtasks.
CREATE TABLE job_blocks (
  job_id INTEGER NOT NULL,
  block  INTEGER NOT NULL,             -- subtask / 1024
  number INTEGER NOT NULL,             -- of the transitions
  PRIMARY KEY (job_id, block, number)
) STRICT, WITHOUT ROWID;

-- Attempts that are over and did not finish: few of many, so each has a row. Those that finished are in the history.
CREATE TABLE job_attempts (
  job_id      INTEGER NOT NULL,
  subtask     INTEGER NOT NULL,
  attempt     INTEGER NOT NULL,
  state       TEXT NOT NULL,           -- failed, canceled or handed_back
  class       TEXT,                    -- of a failure
  retried     INTEGER NOT NULL,        -- of a failure: another attempt was to follow
  node_id     INTEGER,
  backend     INTEGER,                 -- its place in the list of the job
  started_at  INTEGER,
  ended_at    INTEGER NOT NULL,
  exit_code   INTEGER,                 -- as a shell gives it
  fingerprint TEXT,
  message     TEXT NOT NULL,
  stands      INTEGER NOT NULL,        -- its subtask is failed because of it
  PRIMARY KEY (job_id, subtask, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_attempts_stands ON job_attempts (job_id, fingerprint) WHERE stands = 1;
CREATE INDEX job_attempts_ended ON job_attempts (job_id, ended_at) WHERE stands = 0;

-- Chunks of jobs' items, and of submits under way.
CREATE TABLE job_items (
  job_id INTEGER NOT NULL,
  first  INTEGER NOT NULL,             -- the subtask that the first of them is
  body   BLOB NOT NULL,
  PRIMARY KEY (job_id, first)
) STRICT;

-- Submits under way, as they began; their items so far are in job_items.
CREATE TABLE submits (
  id   INTEGER PRIMARY KEY,            -- of the job that it becomes
  name TEXT NOT NULL,
  body BLOB NOT NULL
) STRICT;

-- The life of each node's agent that takes subtasks.
CREATE TABLE runners (
  node_id     INTEGER PRIMARY KEY,
  incarnation TEXT NOT NULL
) STRICT;

-- Backends: external systems that subtasks are sent to.
CREATE TABLE backends (
  name        TEXT PRIMARY KEY,
  max_running INTEGER,                 -- at a time; NULL: as many as nodes run
  open_until  INTEGER,                 -- of its breaker, once it was opened; NULL: closed
  revision    INTEGER NOT NULL,        -- of its document's last change
  body        BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Tokens of people, programs and nodes that join. The body has the digest of the secret; nothing has the secret. In no query.
CREATE TABLE tokens (
  id         TEXT PRIMARY KEY,         -- 12 hexadecimal digits
  name       TEXT NOT NULL,
  role       TEXT NOT NULL,            -- viewer, operator or admin; agent or voter for nodes that join
  prefix     TEXT,                     -- of the buckets that an operator may change; NULL: all
  expires_at INTEGER,                  -- NULL: it does not
  revision   INTEGER NOT NULL,         -- when it was made
  body       BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Authorities whose certificates are believed; the newest one issues.
CREATE TABLE authorities (
  fingerprint TEXT PRIMARY KEY,        -- SHA-256 of the certificate, hexadecimal
  revision    INTEGER NOT NULL,        -- when it was added
  body        BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Where history is delivered to, and how far it is.
CREATE TABLE sinks (
  name          TEXT PRIMARY KEY,
  target        TEXT NOT NULL,         -- webhook, mail or exec
  place         TEXT NOT NULL,         -- where events go; of what is secret, its name
  suspended     INTEGER NOT NULL,
  cursor        INTEGER NOT NULL,      -- everything up to this revision is delivered, or was not wanted
  delivered     INTEGER NOT NULL,      -- events
  last_success  INTEGER,
  failing_since INTEGER,
  failures      INTEGER NOT NULL,      -- in a row
  last_error    TEXT NOT NULL,
  missed        INTEGER NOT NULL,      -- how often history was dropped before it was delivered
  missed_after  INTEGER,               -- what of it was dropped last: after this revision …
  missed_to     INTEGER,               -- … up to this
  labels        TEXT NOT NULL,         -- JSON object
  owner         TEXT,
  revision      INTEGER NOT NULL,      -- of its document
  body          BLOB NOT NULL
) STRICT, WITHOUT ROWID;
