-- Which providers each node has, by name: with commas between them.
ALTER TABLE nodes ADD COLUMN providers TEXT NOT NULL DEFAULT '';
