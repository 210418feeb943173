"""The function that writes: one statement of a client, and one transaction, for each group of writes.

A statement made of CTEs would not do: all its parts read the snapshot that was taken when it began, before it waited
for its turn, so a create would take a deleted object for a live one, and the log would hold the fields of a state that
was already gone. A function's statements each see what is committed when they begin.

    lock ── compare, log, object, index ── for each write ── NOTIFY ── commit ── unlocked
"""

FUNCTION = "write_1"
"""A function that works otherwise gets another name, so that programs of two versions can write side by side."""
LOCK = 0x746F7274
"""Writers queue behind the advisory lock (this, the store table's oid), founders behind (this, 0)."""


def create_function(schema: str) -> str:
    """The statement that makes `FUNCTION` in `schema`, which is an identifier that needs no quotes."""
    return _WRITE.replace("tortie.", f"{schema}.")


_WRITE = f"""\
CREATE FUNCTION tortie.{FUNCTION}(
  verbs text[], kinds text[], namespaces text[], names text[],
  revisions text[],  -- the one each must be at; of a create, null
  fields text[],     -- its indexed fields, a line each; of a delete, null
  bodies bytea[],
  timeline text      -- the server's: after a fail-over revisions may count again what was lost
) RETURNS TABLE (outcome text, number bigint, identity text, compacted bigint) LANGUAGE plpgsql AS $$
DECLARE
  newest bigint;
  current bigint;
  was text[];
  now text[];
  there boolean;
BEGIN
  -- Every statement of a function that is volatile sees what was committed when it began (READ COMMITTED), so what
  -- follows the lock sees all that its former holders did: they let go of it after their commit can be seen.
  PERFORM pg_advisory_xact_lock({LOCK}, 'tortie.store'::regclass::oid::integer);
  SELECT s.identity || '.' || timeline, s.compacted, coalesce((SELECT max(c.revision) FROM tortie.change c), 0)
    INTO STRICT identity, compacted, newest FROM tortie.store s;
  FOR i IN 1 .. cardinality(verbs) LOOP
    SELECT o.revision, o.indexed INTO current, was FROM tortie.object o
      WHERE o.kind = kinds[i] AND o.namespace = namespaces[i] AND o.name = names[i];
    there := FOUND;
    number := newest;
    IF verbs[i] = 'create' THEN
      outcome := CASE WHEN there THEN 'taken' ELSE 'done' END;
    ELSIF NOT there THEN
      outcome := 'absent';
    ELSIF revisions[i] IS DISTINCT FROM current || '-' || identity THEN
      outcome := 'moved';
    ELSE
      outcome := 'done';
    END IF;
    IF outcome = 'done' THEN
      newest := newest + 1;
      number := newest;
      now := string_to_array(fields[i], E'\\n');
      -- The primary key makes sure of what the lock is for: nobody commits a number twice, or before the one below it.
      INSERT INTO tortie.change VALUES (newest, kinds[i], namespaces[i], names[i], was, now);
      CASE verbs[i]
        WHEN 'create' THEN
          INSERT INTO tortie.object VALUES (kinds[i], namespaces[i], names[i], newest, now, bodies[i]);
        WHEN 'update' THEN
          UPDATE tortie.object o SET revision = newest, indexed = now, body = bodies[i]
            WHERE o.kind = kinds[i] AND o.namespace = namespaces[i] AND o.name = names[i];
        WHEN 'delete' THEN
          DELETE FROM tortie.object o
            WHERE o.kind = kinds[i] AND o.namespace = namespaces[i] AND o.name = names[i];
      END CASE;
      IF was IS DISTINCT FROM now THEN
        DELETE FROM tortie.field f WHERE f.kind = kinds[i] AND f.namespace = namespaces[i] AND f.name = names[i]
          AND f.entry = ANY (was) AND (f.entry = ANY (now)) IS NOT TRUE;
        INSERT INTO tortie.field SELECT kinds[i], entry, namespaces[i], names[i] FROM unnest(now) AS entry
          WHERE (entry = ANY (was)) IS NOT TRUE AND NOT starts_with(entry, 'namespace=');
      END IF;
      PERFORM pg_notify('tortie.change', kinds[i]);
    END IF;
    RETURN NEXT;
  END LOOP;
END $$
"""  # noqa: S608  # constants
"""One call is one transaction, and a write that is refused changes nothing: others in the call don't notice it."""
