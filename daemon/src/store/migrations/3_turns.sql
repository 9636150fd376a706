-- True from a fallback on until a turn has succeeded, and of the turns that ran meanwhile.
ALTER TABLE sessions ADD COLUMN lost_context INTEGER NOT NULL DEFAULT 0
    CHECK (lost_context IN (0, 1));
ALTER TABLE turns ADD COLUMN lost_context INTEGER NOT NULL DEFAULT 0
    CHECK (lost_context IN (0, 1));
