-- From schema 5 to 6: who may do what.
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
