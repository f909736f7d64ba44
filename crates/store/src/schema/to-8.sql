-- From schema 7 to 8: the tables are the same. Their rows have bodies that schema 7 does not read (of the cluster, of jobs'
-- histories), so it must refuse the file whole. And releases go with the events about them: those of deleted buckets whose
-- events went before would be met by no other event.
DELETE FROM releases
  WHERE revision <= (SELECT value FROM meta WHERE name = 'pruned')
    AND bucket NOT IN (SELECT name FROM buckets);
