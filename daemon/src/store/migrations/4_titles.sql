ALTER TABLE sessions ADD COLUMN last_prompt TEXT;

-- No transcript has this size, so that the next sweep reads every transcript again. Titles that
-- were text of a CLI or an editor are forgotten: a sweep without a title keeps the old one.
UPDATE files SET size = -1;
UPDATE sessions SET title = NULL
    WHERE title LIKE '<%' OR title LIKE '[Request interrupted%'
       OR title LIKE 'This session is being continued%';
