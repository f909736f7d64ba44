-- The views that queries read, in the schema `temp`, where names are looked for first. What they are for people stands in
-- model::query::VIEWS, and a test compares the two. Functions named sheaf_… are in `functions`: they read what SQLite
-- cannot, and expand ranges and histories, block by block.
CREATE TEMP TABLE sheaf_states (name TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO sheaf_states VALUES ('waiting'), ('ready'), ('running'), ('finished'), ('failed'), ('canceled');

CREATE TEMP VIEW nodes AS
SELECT name, id, hostname, address, status, sheaf_time(since) AS since, reason, labels,
       -- As other answers say it: an empty list would read as none.
       CASE allowed_modules WHEN '[]' THEN '["*"]' ELSE allowed_modules END AS allowed_modules, denied_modules,
       version, cpu, memory_total, revision
FROM main.nodes;

CREATE TEMP VIEW modules AS
SELECT name, version, runtime, supports_multi_node, revision, sheaf_time(at) AS at
FROM main.modules;

CREATE TEMP VIEW buckets AS
SELECT b.name, b.type, b.module, b.multi_node, b.suspended, b.node_list_rules,
       (SELECT json_group_array(n.hostname) FROM main.nodes n
        WHERE n.id IN (SELECT i.node_id FROM main.instances i
                       WHERE i.bucket = b.name AND i.epoch IS NULL AND i.phase = 'running')
           OR n.id = g.node_id) AS node_affinity,
       g.epoch AS affinity_epoch, sheaf_time(g.since) AS affinity_since,
       (SELECT count(*) FROM main.instances i WHERE i.bucket = b.name AND i.phase = 'running') AS running,
       b.config, b.labels, b.owner, sheaf_time(b.quarantined_until) AS quarantined_until, b.emergency, b.revision
FROM main.buckets b LEFT JOIN main.bindings g ON g.bucket = b.name;

CREATE TEMP VIEW instances AS
SELECT i.bucket, coalesce(n.name, 'node ' || i.node_id) AS node, i.phase, i.epoch, i.revision, i.pid,
       sheaf_time(i.started_at) AS started_at, i.restarts, i.exit, i.message
FROM main.instances i LEFT JOIN main.nodes n ON n.id = i.node_id;

CREATE TEMP VIEW jobs AS
SELECT j.name, j.id, sheaf_job(j.id, 'state') AS state, sheaf_job(j.id, 'priority') AS priority, j.module,
       j.count AS subtasks, sheaf_job(j.id, 'waiting') AS waiting, sheaf_job(j.id, 'ready') AS ready,
       sheaf_job(j.id, 'running') AS running, sheaf_job(j.id, 'finished') AS finished,
       sheaf_job(j.id, 'failed') AS failed, sheaf_job(j.id, 'canceled') AS canceled,
       sheaf_job(j.id, 'progress') AS progress, sheaf_time(sheaf_job(j.id, 'created_at')) AS created_at,
       sheaf_time(sheaf_job(j.id, 'started_at')) AS started_at, sheaf_time(sheaf_job(j.id, 'ended_at')) AS ended_at,
       sheaf_job(j.id, 'reason') AS reason, sheaf_job(j.id, 'labels') AS labels, sheaf_job(j.id, 'owner') AS owner,
       sheaf_job(j.id, 'revision') AS revision
FROM main.jobs j;

CREATE TEMP VIEW subtasks AS
SELECT j.name AS job, s.value AS subtask, st.name AS state, sheaf_subtask(j.id, s.value, 'attempt') AS attempt,
       sheaf_subtask(j.id, s.value, 'node') AS node, sheaf_subtask(j.id, s.value, 'backend') AS backend,
       sheaf_subtask(j.id, s.value, 'priority') AS priority,
       sheaf_time(sheaf_subtask(j.id, s.value, 'started_at')) AS started_at,
       sheaf_time(sheaf_subtask(j.id, s.value, 'ended_at')) AS ended_at,
       sheaf_subtask(j.id, s.value, 'exit_code') AS exit_code, sheaf_subtask(j.id, s.value, 'message') AS message,
       sheaf_subtask(j.id, s.value, 'fingerprint') AS fingerprint
FROM main.jobs j CROSS JOIN sheaf_states st CROSS JOIN rarray(sheaf_pieces(j.id, st.name)) p
     CROSS JOIN rarray(sheaf_numbers(p.value)) s;

CREATE TEMP VIEW attempts AS
SELECT j.name AS job, a.subtask AS subtask, a.attempt AS attempt, a.state AS state, a.class AS class,
       CASE a.state WHEN 'failed' THEN a.retried END AS retried,
       sheaf_node(a.node_id) AS node, sheaf_backend(j.id, a.backend) AS backend,
       sheaf_time(a.started_at) AS started_at, sheaf_time(a.ended_at) AS ended_at, a.exit_code AS exit_code,
       a.message AS message, a.fingerprint AS fingerprint, a.subtask >> 10 AS block
FROM main.jobs j CROSS JOIN main.job_attempts a ON a.job_id = j.id
UNION ALL
SELECT j.name, k.value >> 32, k.value & 4294967295, 'finished', NULL, NULL,
       sheaf_attempt(j.id, k.value, 'node'), sheaf_attempt(j.id, k.value, 'backend'),
       sheaf_time(sheaf_attempt(j.id, k.value, 'started_at')), sheaf_time(sheaf_attempt(j.id, k.value, 'ended_at')),
       sheaf_attempt(j.id, k.value, 'exit_code'), '', NULL, b.value
FROM main.jobs j CROSS JOIN rarray(sheaf_blocks(j.id)) b CROSS JOIN rarray(sheaf_finished(j.id, b.value)) k
UNION ALL
SELECT j.name, k.value, sheaf_subtask(j.id, k.value, 'attempt'), 'running', NULL, NULL,
       sheaf_subtask(j.id, k.value, 'node'), sheaf_subtask(j.id, k.value, 'backend'),
       sheaf_time(sheaf_subtask(j.id, k.value, 'started_at')), NULL, NULL, '', NULL, k.value >> 10
FROM main.jobs j CROSS JOIN rarray(sheaf_running(j.id)) k;

CREATE TEMP VIEW transitions AS
SELECT j.name AS job, t.revision AS revision, sheaf_time(t.at) AS at, sheaf_step(j.id, t.number, k.value, 'kind') AS kind,
       sheaf_step(j.id, t.number, k.value, 'first') AS first, sheaf_step(j.id, t.number, k.value, 'last') AS last,
       sheaf_step(j.id, t.number, k.value, 'attempt') AS attempt, sheaf_step(j.id, t.number, k.value, 'node') AS node,
       sheaf_step(j.id, t.number, k.value, 'class') AS class,
       coalesce(sheaf_step(j.id, t.number, k.value, 'actor'),
                (SELECT e.actor FROM main.events e WHERE e.revision = t.revision ORDER BY e.n LIMIT 1)) AS actor,
       coalesce(sheaf_step(j.id, t.number, k.value, 'reason'),
                (SELECT e.message FROM main.events e
                 WHERE e.revision = t.revision AND e.subject = j.name
                       AND e.kind IN ('job.canceling', 'job.subtasks_canceled')
                 ORDER BY e.n LIMIT 1)) AS reason
FROM main.jobs j JOIN main.job_transitions t ON t.job_id = j.id CROSS JOIN rarray(sheaf_steps(j.id, t.number)) k;

CREATE TEMP VIEW failures AS
SELECT j.name AS job, a.subtask, a.attempt, a.class, sheaf_node(a.node_id) AS node, sheaf_time(a.ended_at) AS at,
       a.exit_code, a.fingerprint, a.message
FROM main.jobs j CROSS JOIN main.job_attempts a ON a.job_id = j.id AND a.stands = 1;

CREATE TEMP VIEW sinks AS
SELECT name, target, place,
       CASE WHEN suspended THEN 'suspended' WHEN failing_since IS NOT NULL THEN 'failing' ELSE 'active' END AS state,
       cursor, delivered, sheaf_time(last_success) AS last_success, sheaf_time(failing_since) AS failing_since, failures,
       last_error, missed, missed_after, missed_to, labels, owner, revision
FROM main.sinks;

CREATE TEMP VIEW events AS
SELECT revision, n, sheaf_time(at) AS at, kind, subject, actor, node, before, after, message,
       CASE WHEN kind LIKE 'job.%' THEN subject END AS job, CASE WHEN subject LIKE '/%' THEN subject END AS bucket
FROM main.events;
