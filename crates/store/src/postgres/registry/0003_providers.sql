-- Which providers each node has, by name: with commas between them. A node of a program that does not tell has none.
ALTER TABLE freehold_registry.nodes ADD COLUMN providers text NOT NULL DEFAULT '';
