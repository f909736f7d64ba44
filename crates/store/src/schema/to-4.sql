-- From schema 3 to 4: secrets, sealed, and jobs.
CREATE TABLE secrets (
  name     TEXT PRIMARY KEY,
  key      TEXT NOT NULL,
  revision INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  actor    TEXT NOT NULL,
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
  PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;

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
