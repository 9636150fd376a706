-- Ids that a merge of two rows of one transcript has made superfluous. They stay selectors.
CREATE TABLE aliases (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX alias_of_session ON aliases (session_id);
-- Sessions with keys of their own that are one transcript: they share a writer.
CREATE TABLE twins (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    writer_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX twins_by_writer ON twins (writer_id);
