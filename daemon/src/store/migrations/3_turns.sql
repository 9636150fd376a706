-- True from a fallback on until a turn has succeeded, and of the turns that ran meanwhile.
ALTER TABLE sessions ADD COLUMN lost_context INTEGER NOT NULL DEFAULT 0
    CHECK (lost_context IN (0, 1));
ALTER TABLE turns ADD COLUMN lost_context INTEGER NOT NULL DEFAULT 0
    CHECK (lost_context IN (0, 1));

-- What a turn was asked to be, so that the next daemon can go on with one that waits.
ALTER TABLE turns ADD COLUMN timeout_ms INTEGER;
ALTER TABLE turns ADD COLUMN raw INTEGER NOT NULL DEFAULT 0 CHECK (raw IN (0, 1));
ALTER TABLE turns ADD COLUMN wait INTEGER NOT NULL DEFAULT 0 CHECK (wait IN (0, 1));
ALTER TABLE turns ADD COLUMN fallback INTEGER NOT NULL DEFAULT 0 CHECK (fallback IN (0, 1));
-- Whether it needs variables that only the memory of the daemon had.
ALTER TABLE turns ADD COLUMN needs_environment INTEGER NOT NULL DEFAULT 1
    CHECK (needs_environment IN (0, 1));
-- Both in the order of the rows, which is that of their acceptance.
CREATE INDEX turns_of_session ON turns (session_id);
CREATE INDEX turns_in_state ON turns (state);
