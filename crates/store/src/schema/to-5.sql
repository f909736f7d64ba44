-- From schema 4 to 5: indexes over jobs' histories, and backends. What the indexes hold is read from the histories after this.
ALTER TABLE job_transitions ADD COLUMN touched INTEGER NOT NULL DEFAULT 0;
CREATE INDEX job_transitions_age ON job_transitions (revision);

CREATE TABLE job_blocks (
  job_id INTEGER NOT NULL,
  block  INTEGER NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (job_id, block, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_attempts (
  job_id      INTEGER NOT NULL,
  subtask     INTEGER NOT NULL,
  attempt     INTEGER NOT NULL,
  state       TEXT NOT NULL,
  class       TEXT,
  retried     INTEGER NOT NULL,
  node_id     INTEGER,
  backend     INTEGER,
  started_at  INTEGER,
  ended_at    INTEGER NOT NULL,
  exit_code   INTEGER,
  fingerprint TEXT,
  message     TEXT NOT NULL,
  stands      INTEGER NOT NULL,
  PRIMARY KEY (job_id, subtask, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_attempts_stands ON job_attempts (job_id, fingerprint) WHERE stands = 1;
CREATE INDEX job_attempts_ended ON job_attempts (job_id, ended_at) WHERE stands = 0;

INSERT INTO meta VALUES ('touched', 0);

-- Backends: external systems that subtasks are sent to.
CREATE TABLE backends (
  name        TEXT PRIMARY KEY,
  max_running INTEGER,                 -- at a time; NULL: as many as nodes run
  open_until  INTEGER,                 -- of its breaker, once it was opened; NULL: closed
  revision    INTEGER NOT NULL,        -- of its document's last change
  body        BLOB NOT NULL
) STRICT, WITHOUT ROWID;
