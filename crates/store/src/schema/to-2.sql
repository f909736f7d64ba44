-- From schema 1 to 2: what modules keep in the cluster, and that they can have their bucket stopped.
ALTER TABLE buckets ADD COLUMN quarantined_until INTEGER;
ALTER TABLE buckets ADD COLUMN emergency TEXT;

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
