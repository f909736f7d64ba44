-- From schema 3 to 4: secrets, sealed.
CREATE TABLE secrets (
  name     TEXT PRIMARY KEY,
  key      TEXT NOT NULL,
  revision INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  actor    TEXT NOT NULL,
  body     BLOB NOT NULL
) STRICT, WITHOUT ROWID;
