-- What schema.sql has beyond the schema before: backends.
-- Backends: external systems that subtasks are sent to.
CREATE TABLE backends (
  name        TEXT PRIMARY KEY,
  max_running INTEGER,                 -- at a time; NULL: as many as nodes run
  open_until  INTEGER,                 -- of its breaker, once it was opened; NULL: closed
  revision    INTEGER NOT NULL,        -- of its document's last change
  body        BLOB NOT NULL
) STRICT, WITHOUT ROWID;
