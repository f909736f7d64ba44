-- From schema 2 to 3: which blob belongs to which version of a module.
CREATE TABLE artifacts (
  module   TEXT PRIMARY KEY,           -- name@version
  digest   TEXT NOT NULL,              -- SHA-256 of the blob, hexadecimal
  size     INTEGER NOT NULL,           -- of the blob, in bytes
  file     TEXT NOT NULL,              -- the name of the one file that was pushed; empty: a directory
  revision INTEGER NOT NULL,           -- of its registration
  at       INTEGER NOT NULL,
  body     BLOB NOT NULL
) STRICT, WITHOUT ROWID;
