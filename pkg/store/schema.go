package store

import (
	"crypto/rand"
	"database/sql/driver"
	"fmt"
)

// migrations bring a database from version i to i+1; user_version says how many were done.
// One that was released is never changed. Times are Unix milliseconds, 0 for none.
var migrations = []string{`
-- One row: where the sorter goes on, and the next block's id.
CREATE TABLE state (
	id         INTEGER PRIMARY KEY CHECK (id = 1),
	position   INTEGER NOT NULL,
	next_block INTEGER NOT NULL,
	hash_key   BLOB NOT NULL      -- of the hashes in seen and known
);

-- entries and bytes are kept up with every commit, so that opening needs no scan of the blocks.
CREATE TABLE lanes (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	destination TEXT NOT NULL,
	hub         TEXT NOT NULL,
	account     TEXT NOT NULL,
	lane        TEXT NOT NULL,
	entries     INTEGER NOT NULL DEFAULT 0,  -- not finished
	bytes       INTEGER NOT NULL DEFAULT 0,  -- of its blocks' data
	UNIQUE (destination, hub, account, lane)
);

-- data stands last: the columns before it are read without its overflow pages.
CREATE TABLE blocks (
	id      INTEGER PRIMARY KEY,
	lane    INTEGER NOT NULL,
	entries INTEGER NOT NULL,
	oldest  INTEGER NOT NULL,
	size    INTEGER NOT NULL,  -- of the data before compression
	bytes   INTEGER NOT NULL,  -- of the data here
	crc     INTEGER NOT NULL,  -- CRC-32C of id, lane, entries and data
	data    BLOB NOT NULL
);
CREATE INDEX blocks_lane ON blocks (lane, id);

-- Which entries of a partly finished block are finished.
CREATE TABLE progress (
	block    INTEGER PRIMARY KEY,
	finished INTEGER NOT NULL,
	done     BLOB NOT NULL
);

CREATE TABLE retries (
	block   INTEGER NOT NULL,
	entry   INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	due     INTEGER NOT NULL,
	since   INTEGER NOT NULL,
	blocked INTEGER NOT NULL,  -- milliseconds
	error   TEXT NOT NULL,
	PRIMARY KEY (block, entry)
) WITHOUT ROWID;

-- Calls that may have reached the remote. entries: block:index,index;block:index
CREATE TABLE calls (
	id        INTEGER PRIMARY KEY,
	lane      INTEGER NOT NULL,
	ambiguous INTEGER NOT NULL,
	entries   TEXT NOT NULL
);

CREATE TABLE holds (
	lane  INTEGER NOT NULL,
	key   TEXT NOT NULL,
	until INTEGER NOT NULL,
	PRIMARY KEY (lane, key)
) WITHOUT ROWID;
CREATE INDEX holds_until ON holds (until);

-- Hashes, 8 bytes each, little endian. mark: of known keys, 1 when the remote has the key.
CREATE TABLE seen (
	id     INTEGER PRIMARY KEY,
	bucket INTEGER NOT NULL,
	began  INTEGER NOT NULL,  -- the bucket
	mark   INTEGER NOT NULL,
	hashes BLOB NOT NULL
);
CREATE TABLE known (
	id     INTEGER PRIMARY KEY,
	bucket INTEGER NOT NULL,
	began  INTEGER NOT NULL,
	mark   INTEGER NOT NULL,
	hashes BLOB NOT NULL
);

CREATE TABLE identities (
	api_key TEXT NOT NULL,
	kind    TEXT NOT NULL,
	value   TEXT NOT NULL,
	email   TEXT NOT NULL,
	server  INTEGER NOT NULL,  -- 1: taught by a server key
	seen    INTEGER NOT NULL,
	PRIMARY KEY (api_key, kind, value)
) WITHOUT ROWID;

CREATE TABLE dead_letters (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	destination TEXT NOT NULL,
	hub         TEXT NOT NULL,
	account     TEXT NOT NULL,
	lane        TEXT NOT NULL,
	log_offset  INTEGER NOT NULL,
	output      INTEGER NOT NULL,
	api_key     TEXT NOT NULL,
	event_id    TEXT NOT NULL,
	event_type  TEXT NOT NULL,
	person      TEXT NOT NULL,
	received    INTEGER NOT NULL,
	at          INTEGER NOT NULL,
	attempts    INTEGER NOT NULL,
	reason      TEXT NOT NULL,
	error       TEXT NOT NULL,
	crc         INTEGER NOT NULL,  -- CRC-32C of event and original
	event       BLOB,
	original    BLOB
);
CREATE INDEX dead_letters_reason ON dead_letters (destination, reason);
CREATE INDEX dead_letters_event ON dead_letters (event_id);

CREATE TABLE cache (
	key   TEXT PRIMARY KEY,
	at    INTEGER NOT NULL,
	value BLOB
);
`, `
-- What destinations remember of identities, some hundred bytes each: rows of about a page. Of several with one hash the last counts.
CREATE TABLE memories (
	id    INTEGER PRIMARY KEY,
	crc   INTEGER NOT NULL,  -- CRC-32C of id, heads and data
	heads BLOB NOT NULL,     -- 14 bytes each, little endian: hash (8), when it was made in Unix seconds (4), size (2)
	data  BLOB NOT NULL      -- one behind the other
);
`, `
-- What became of outputs: a row for each batch. The index has rows of about a page, each about the rows of outcomes from its id to the next one's.
CREATE TABLE outcomes (
	id    INTEGER PRIMARY KEY,
	count INTEGER NOT NULL,
	size  INTEGER NOT NULL,  -- of the data before compression
	crc   INTEGER NOT NULL,  -- CRC-32C of id, count and data
	data  BLOB NOT NULL
);
CREATE TABLE outcome_index (
	id           INTEGER PRIMARY KEY,
	began        INTEGER NOT NULL,
	newest       INTEGER NOT NULL,  -- when the last of them was settled
	bytes_before INTEGER NOT NULL,  -- of all rows that ever were before this
	count_before INTEGER NOT NULL,
	bytes        INTEGER NOT NULL,  -- that they take, about
	count        INTEGER NOT NULL,
	crc          INTEGER NOT NULL,  -- CRC-32C of id, sizes and hashes
	sizes        BLOB NOT NULL,     -- uvarints: how many hashes each row has
	hashes       BLOB NOT NULL      -- of event ids and persons, 8 bytes each, little endian
);
`, `
-- Where the sorter goes on in the log of bulk events; position is that of the live ones.
ALTER TABLE state ADD COLUMN bulk_position INTEGER NOT NULL DEFAULT 0;
`, `
-- What scripts of destinations keep: $kv. id rises with every write, so that the lowest one of a destination was written longest ago.
CREATE TABLE kv (
	id          INTEGER PRIMARY KEY,
	destination TEXT NOT NULL,
	key         TEXT NOT NULL,
	written     INTEGER NOT NULL,
	expires     INTEGER NOT NULL,
	size        INTEGER NOT NULL,  -- bytes of key and value
	value       TEXT NOT NULL      -- JSON
);
CREATE UNIQUE INDEX kv_key ON kv (destination, key);
CREATE INDEX kv_oldest ON kv (destination, id, size);
CREATE INDEX kv_expires ON kv (expires) WHERE expires > 0;
`, `
ALTER TABLE dead_letters ADD COLUMN outputs INTEGER NOT NULL DEFAULT 0;  -- that its event had for the destination; 0: not known
ALTER TABLE dead_letters ADD COLUMN replays INTEGER NOT NULL DEFAULT 0;  -- how often it was replayed before it came back
CREATE INDEX dead_letters_at ON dead_letters (destination, at);
CREATE INDEX dead_letters_destination ON dead_letters (destination);  -- in the order of ids
DROP INDEX dead_letters_event;
CREATE INDEX dead_letters_event ON dead_letters (event_id, log_offset);
CREATE INDEX dead_letters_person ON dead_letters (person COLLATE NOCASE);

-- Of letters that are to be sent again, or that could not be. A table of its own: to write one of these does not write a letter's records anew.
CREATE TABLE replays (
	letter      INTEGER PRIMARY KEY,
	destination TEXT NOT NULL,  -- the letter's
	how         TEXT NOT NULL,  -- words with commas between: original or as_is, overwrite, all; '' while nobody asks
	problem     TEXT NOT NULL   -- why the last replay stopped
);
CREATE INDEX replays_marked ON replays (destination, letter) WHERE how <> '';

-- How many are marked, kept by the triggers.
CREATE TABLE replay_use (
	destination TEXT PRIMARY KEY,
	marked      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER replays_added AFTER INSERT ON replays WHEN NEW.how <> '' BEGIN
	INSERT INTO replay_use VALUES (NEW.destination, 1) ON CONFLICT DO UPDATE SET marked = marked + 1;
END;
CREATE TRIGGER replays_changed AFTER UPDATE OF how ON replays WHEN (NEW.how <> '') <> (OLD.how <> '') BEGIN
	INSERT INTO replay_use VALUES (NEW.destination, 0) ON CONFLICT DO NOTHING;
	UPDATE replay_use SET marked = marked + CASE WHEN NEW.how <> '' THEN 1 ELSE -1 END WHERE destination = NEW.destination;
END;
CREATE TRIGGER replays_gone AFTER DELETE ON replays WHEN OLD.how <> '' BEGIN
	UPDATE replay_use SET marked = marked - 1 WHERE destination = OLD.destination;
END;

-- How many letters there are and the bytes of their records and errors, kept by the triggers, so that nobody has to count them.
CREATE TABLE dead_letter_use (
	destination TEXT NOT NULL,
	reason      TEXT NOT NULL,
	letters     INTEGER NOT NULL,
	bytes       INTEGER NOT NULL,
	PRIMARY KEY (destination, reason)
) WITHOUT ROWID;
INSERT INTO dead_letter_use SELECT destination, reason, count(*), sum(coalesce(length(event), 0) + coalesce(length(original), 0) + length(CAST(error AS BLOB)))
	FROM dead_letters GROUP BY destination, reason;
CREATE TRIGGER dead_letters_added AFTER INSERT ON dead_letters BEGIN
	INSERT INTO dead_letter_use VALUES (NEW.destination, NEW.reason, 1,
		coalesce(length(NEW.event), 0) + coalesce(length(NEW.original), 0) + length(CAST(NEW.error AS BLOB)))
		ON CONFLICT DO UPDATE SET letters = letters + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER dead_letters_gone AFTER DELETE ON dead_letters BEGIN
	UPDATE dead_letter_use SET letters = letters - 1,
		bytes = bytes - coalesce(length(OLD.event), 0) - coalesce(length(OLD.original), 0) - length(CAST(OLD.error AS BLOB))
		WHERE destination = OLD.destination AND reason = OLD.reason;
	DELETE FROM dead_letter_use WHERE destination = OLD.destination AND reason = OLD.reason AND letters <= 0;
	DELETE FROM replays WHERE letter = OLD.id;
END;
CREATE TRIGGER dead_letters_edited AFTER UPDATE OF event, original, error ON dead_letters BEGIN
	UPDATE dead_letter_use SET bytes = bytes + coalesce(length(NEW.event), 0) + coalesce(length(NEW.original), 0) + length(CAST(NEW.error AS BLOB))
		- coalesce(length(OLD.event), 0) - coalesce(length(OLD.original), 0) - length(CAST(OLD.error AS BLOB))
		WHERE destination = NEW.destination AND reason = NEW.reason;
END;

-- How long a call has gone without an answer, in milliseconds, without the time that its lane was blocked.
ALTER TABLE calls ADD COLUMN age INTEGER NOT NULL DEFAULT 0;

-- Files that dead letters were exported to: what router forget can not reach.
CREATE TABLE exports (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	at      INTEGER NOT NULL,
	target  TEXT NOT NULL,     -- a file, or the address of who fetched them
	query   TEXT NOT NULL,     -- which letters
	letters INTEGER NOT NULL
);

-- Blocks that can not be read and are given up. Their rows in blocks stay, for to delete what is damaged may damage more; nothing reads them.
CREATE TABLE damaged (
	block   INTEGER PRIMARY KEY,
	lane    INTEGER NOT NULL,
	entries INTEGER NOT NULL,  -- that were not finished
	at      INTEGER NOT NULL,
	kept    TEXT NOT NULL,     -- the file with what could be read of it; '' when there is none
	error   TEXT NOT NULL
);

-- lookup_key: of the hashes that stand for what is looked up where data is encrypted. hashed: 1 where they do, 0 where texts do, 2 while that changes.
-- keys: the ids of the keys with which rows may be sealed, commas between; 00000000 for those that are not. '' is the same as that one.
ALTER TABLE state ADD COLUMN lookup_key BLOB;
ALTER TABLE state ADD COLUMN hashed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN keys TEXT NOT NULL DEFAULT '';
ALTER TABLE identities ADD COLUMN sealed BLOB;  -- value and email, which are hashes then; NULL: they are the texts
ALTER TABLE holds ADD COLUMN sealed BLOB;       -- likewise key
ALTER TABLE cache ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;  -- 1: value is

-- Checksums of what plain rows say: see sum.go. NULL, or -1: the row is sealed, and so authenticated, or from before.
ALTER TABLE seen ADD COLUMN crc INTEGER NOT NULL DEFAULT -1;
ALTER TABLE known ADD COLUMN crc INTEGER NOT NULL DEFAULT -1;
ALTER TABLE identities ADD COLUMN sum INTEGER;
ALTER TABLE kv ADD COLUMN sum INTEGER;
ALTER TABLE holds ADD COLUMN sum INTEGER;
ALTER TABLE cache ADD COLUMN sum INTEGER;
ALTER TABLE dead_letters ADD COLUMN sum INTEGER;  -- of where it belongs; crc is that of its records

-- Persons who are forgotten, by keyed hashes of their ids. What the logs hold of them below these positions is not delivered. Rows of one person have the same at. They are deleted when
-- nothing is left of the person; until then the id stands in them, for an id that only an event in the log told is known by nothing else after a crash.
CREATE TABLE forgotten (
	hash          BLOB PRIMARY KEY,
	at            INTEGER NOT NULL,
	position      INTEGER NOT NULL,
	bulk_position INTEGER NOT NULL,
	is_email      INTEGER NOT NULL,
	id            TEXT NOT NULL  -- as JSON: kind, API key, value
) WITHOUT ROWID;

-- Customers' accounts that apps are connected to. sealed holds the tokens and what the account chose; times are 0 where nothing was.
CREATE TABLE connections (
	id            INTEGER PRIMARY KEY,
	app           TEXT NOT NULL,
	account       TEXT NOT NULL,
	hub           TEXT NOT NULL,
	status        TEXT NOT NULL,     -- connected, reconnect_needed
	reason        TEXT NOT NULL,     -- why it is not connected
	scopes        TEXT NOT NULL,     -- granted, spaces between
	since         INTEGER NOT NULL,  -- when the account connected this hub first
	granted       INTEGER NOT NULL,  -- when its people granted it last
	changed       INTEGER NOT NULL,  -- when the status did last
	expires       INTEGER NOT NULL,  -- the access token
	last_delivery INTEGER NOT NULL,
	last_error    TEXT NOT NULL,
	last_error_at INTEGER NOT NULL,
	sealed        BLOB NOT NULL
);
CREATE UNIQUE INDEX connections_account ON connections (app, account);
CREATE INDEX connections_hub ON connections (app, hub);

-- People who are at HubSpot to connect an account. id is a hash of what they come back with; a row is gone once they did.
CREATE TABLE connecting (
	id      BLOB PRIMARY KEY,
	app     TEXT NOT NULL,
	account TEXT NOT NULL,
	expires INTEGER NOT NULL,
	sealed  BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX connecting_account ON connecting (app, account, expires);
CREATE INDEX connecting_expires ON connecting (expires);

-- Changes of connections that the team is to be told of, until the log has them.
CREATE TABLE connection_notices (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	app     TEXT NOT NULL,
	account TEXT NOT NULL,
	hub     TEXT NOT NULL,
	status  TEXT NOT NULL,
	reason  TEXT NOT NULL,
	at      INTEGER NOT NULL
);
`, `
-- What dead_letter_use says, by account. It tells whose letters go when the accounts of a destination have too many: see PushOutDeadLetters.
CREATE TABLE dead_letter_accounts (
	destination TEXT NOT NULL,
	account     TEXT NOT NULL,
	bytes       INTEGER NOT NULL,
	PRIMARY KEY (destination, account)
) WITHOUT ROWID;
CREATE INDEX dead_letter_accounts_most ON dead_letter_accounts (destination, bytes);
CREATE INDEX dead_letters_account ON dead_letters (destination, account);  -- in the order of ids
INSERT INTO dead_letter_accounts SELECT destination, account, sum(coalesce(length(event), 0) + coalesce(length(original), 0) + length(CAST(error AS BLOB)))
	FROM dead_letters GROUP BY destination, account;
CREATE TRIGGER dead_letters_added_of AFTER INSERT ON dead_letters BEGIN
	INSERT INTO dead_letter_accounts VALUES (NEW.destination, NEW.account,
		coalesce(length(NEW.event), 0) + coalesce(length(NEW.original), 0) + length(CAST(NEW.error AS BLOB)))
		ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER dead_letters_gone_of AFTER DELETE ON dead_letters BEGIN
	UPDATE dead_letter_accounts SET bytes = bytes - coalesce(length(OLD.event), 0) - coalesce(length(OLD.original), 0) - length(CAST(OLD.error AS BLOB))
		WHERE destination = OLD.destination AND account = OLD.account;
	DELETE FROM dead_letter_accounts WHERE destination = OLD.destination AND account = OLD.account AND bytes <= 0;
END;
CREATE TRIGGER dead_letters_edited_of AFTER UPDATE OF event, original, error ON dead_letters BEGIN
	UPDATE dead_letter_accounts SET bytes = bytes + coalesce(length(NEW.event), 0) + coalesce(length(NEW.original), 0) + length(CAST(NEW.error AS BLOB))
		- coalesce(length(OLD.event), 0) - coalesce(length(OLD.original), 0) - length(CAST(OLD.error AS BLOB))
		WHERE destination = NEW.destination AND account = NEW.account;
END;

-- Whose entries of $kv are; those of before count as nobody's until they are written anew. Of the account that keeps most the oldest go when a destination keeps too much.
ALTER TABLE kv ADD COLUMN account TEXT NOT NULL DEFAULT '';
DROP INDEX kv_oldest;
CREATE INDEX kv_oldest ON kv (destination, account, id, size);

-- By which people know a hub; '' where the remote did not say.
ALTER TABLE connections ADD COLUMN hub_domain TEXT NOT NULL DEFAULT '';

-- When accounts disconnected: install links of before are good no more. Rows are deleted when such links are too old in any case.
CREATE TABLE disconnected (
	app     TEXT NOT NULL,
	account TEXT NOT NULL,
	at      INTEGER NOT NULL,
	PRIMARY KEY (app, account)
) WITHOUT ROWID;
`}

// Connection settings. Page size and auto_vacuum take effect only before the first table is made.
//
// synchronous=FULL: a commit is on disk when it returns. secure_delete: what was deleted can not be read from the file.
// The caches of the writer and all readers together stay below 20 MB.
const (
	createPragmas = `PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL;`
	commonPragmas = `PRAGMA busy_timeout=5000; PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY;`
	writerPragmas = `PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; PRAGMA cache_size=-14000;
PRAGMA wal_autocheckpoint=4000; PRAGMA journal_size_limit=67108864;`
	readerPragmas = `PRAGMA cache_size=-2000; PRAGMA query_only=ON;`

	pageSize = 4096
	poolSlot = pageSize + 320 // what SQLite keeps of a page beside it is 272 bytes
	poolSize = 5200           // pages: those of a store's caches

	hashKeyBytes = 16
)

// openWriter opens the write connection and brings the schema up to date.
func openWriter(path, pragmas string) (_ *conn, err error) {
	c, err := openConn(path, "rw")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := c.script(commonPragmas); err != nil {
		return nil, err
	}
	version, err := c.queryInt(`PRAGMA user_version`)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(version); err != nil {
		return nil, err
	}
	if version == 0 {
		if err := c.script(createPragmas); err != nil {
			return nil, err
		}
	}
	if err := c.script(writerPragmas + pragmas); err != nil {
		return nil, err
	}
	for ; version < int64(len(migrations)); version++ {
		if err := c.migrate(version); err != nil {
			return nil, fmt.Errorf("migrate from schema version %d: %w", version, err)
		}
	}
	return c, nil
}

func checkVersion(version int64) error {
	if version > int64(len(migrations)) {
		return fmt.Errorf("%w: schema version %d, this router knows %d", ErrFormat, version, len(migrations))
	}
	return nil
}

// migrate brings the schema from version to the next one.
func (c *conn) migrate(version int64) (err error) {
	if err := c.script(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.script(`ROLLBACK`)
		}
	}()
	if err := c.script(migrations[version]); err != nil {
		return err
	}
	if version == 0 {
		key := make([]byte, hashKeyBytes)
		rand.Read(key)
		if err := c.exec(`INSERT INTO state (id, position, next_block, hash_key) VALUES (1, 0, 1, ?)`, key); err != nil {
			return err
		}
	}
	return c.script(fmt.Sprintf(`PRAGMA user_version=%d; COMMIT`, version+1))
}

// openReader opens a connection that can not write. mode is rw for one beside the writer, ro for another process.
func openReader(path, mode string) (_ *conn, err error) {
	c, err := openConn(path, mode)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := c.script(commonPragmas + readerPragmas); err != nil {
		return nil, err
	}
	version, err := c.queryInt(`PRAGMA user_version`)
	if err != nil {
		return nil, err
	}
	if version < int64(len(migrations)) {
		return nil, fmt.Errorf("%w: schema version %d is older than %d; start the router once", ErrFormat, version, len(migrations))
	}
	return c, checkVersion(version)
}

// state is the one row of the table state.
type state struct {
	position, bulkPosition uint64
	nextBlock              BlockID
}

func (c *conn) state() (st state, err error) {
	err = c.query(`SELECT position, bulk_position, next_block FROM state WHERE id = 1`, func(row []driver.Value) error {
		st = state{uint64(toInt(row[0])), uint64(toInt(row[1])), BlockID(toInt(row[2]))}
		return nil
	})
	if err == nil && st.nextBlock == 0 {
		err = fmt.Errorf("%w: no state", ErrDamaged)
	}
	return st, err
}
