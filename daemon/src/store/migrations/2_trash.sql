-- A title of our own wins over the provider's; it is kept apart, as sweeps bring the latter.
ALTER TABLE sessions ADD COLUMN own_title TEXT;
ALTER TABLE sessions ADD COLUMN status_since INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET status_since = ifnull(checked_at, created_at);

CREATE INDEX list_trash_activity ON sessions (last_activity, seq) WHERE trashed_at IS NOT NULL;
CREATE INDEX list_trash_created ON sessions (created_at, seq) WHERE trashed_at IS NOT NULL;
CREATE INDEX list_trash_expires ON sessions (expires_key, seq) WHERE trashed_at IS NOT NULL;
-- What cleanups look for, the longest due first.
CREATE INDEX due_by_ttl ON sessions (last_activity + ttl_ms)
    WHERE trashed_at IS NULL AND pinned = 0 AND ttl_ms IS NOT NULL;
CREATE INDEX due_gone ON sessions (status_since)
    WHERE trashed_at IS NULL AND pinned = 0 AND (status = 'expired' OR reason = 'starting');
CREATE INDEX due_purge ON sessions (trashed_at) WHERE trashed_at IS NOT NULL AND pinned = 0;

-- The provider's id may not be known yet.
CREATE TABLE bindings_2 (
    seq INTEGER PRIMARY KEY,
    home_id INTEGER NOT NULL REFERENCES homes (id),
    scope TEXT NOT NULL DEFAULT '',
    provider_session_id TEXT,
    location TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    current INTEGER NOT NULL DEFAULT 1 CHECK (current IN (0, 1)),
    UNIQUE (home_id, scope, provider_session_id)
) STRICT;
INSERT INTO bindings_2 SELECT * FROM bindings;
DROP TABLE bindings;
ALTER TABLE bindings_2 RENAME TO bindings;
CREATE UNIQUE INDEX binding_of_session ON bindings (session_id) WHERE current = 1;
CREATE INDEX binding_by_provider_session ON bindings (provider_session_id);

-- Where the transcript was, and the id that the session had and gets back.
DROP TABLE tombstones;
CREATE TABLE tombstones (
    home_id INTEGER NOT NULL REFERENCES homes (id),
    scope TEXT NOT NULL,
    provider_session_id TEXT NOT NULL,
    location TEXT NOT NULL,
    session_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (home_id, scope, provider_session_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstone_of_session ON tombstones (session_id);

-- Wall clock and uptime at earlier cleanups: when they part, the clock was set.
CREATE TABLE looks (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    uptime_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX turns_finished ON turns (finished_at) WHERE finished_at IS NOT NULL;
