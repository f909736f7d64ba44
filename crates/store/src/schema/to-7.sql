-- From schema 6 to 7: where history is delivered to.
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
