package store

import (
	"bytes"
	"crypto/rand"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"eventrouter/pkg/seal"
)

// What is sealed, with a key among Options.Keys that seals:
//
//	what is only read    blocks, outcomes, caches, ...   a blob; its first byte or another column says so
//	texts                errors of retries, ...          a BLOB in a column of TEXT
//	what is looked up    ids, persons, keys of $kv       a keyed hash in its column, the true text in a sealed one beside it
//
// What operators ask for stays: destinations, lanes, reasons, numbers, times. The row that something belongs to is authenticated with it.

// ErrKey says that data is sealed with a key that is not among Options.Keys; it names the key.
var ErrKey = seal.ErrKey

// Kinds of seal.Name. One is never used for something else.
const (
	sealedBlock    = 'b' // id, lane, entries
	sealedOutcomes = 'o' // id, count
	sealedMemories = 'm' // id; heads
	sealedRetry    = 'r' // block, entry
	sealedKV       = 'k' // destination, hash of the key
	sealedIdentity = 'i' // API key, kind, hash of the value
	sealedHold     = 'h' // lane; hash of the key
	sealedLetter   = 'd' // offset, output, time; destination and part
	sealedProblem  = 'p' // letter
	sealedExport   = 'e' // id; column
	sealedCache    = 'c' // key
	sealedHashKey  = 's' //
	sealedLookup   = 'l' //
)

func blockName(id BlockID, lane LaneID, entries int) seal.Name {
	return seal.Name{Kind: sealedBlock, IDs: [3]uint64{uint64(id), uint64(lane), uint64(entries)}}
}

func outcomesName(id int64, count int) seal.Name {
	return seal.Name{Kind: sealedOutcomes, IDs: [3]uint64{uint64(id), uint64(count)}}
}

func memoriesName(row *memoryRow) seal.Name {
	return seal.Name{Kind: sealedMemories, IDs: [3]uint64{uint64(row.id)}, Text: string(row.heads)}
}

func retryName(block BlockID, entry int64) seal.Name {
	return seal.Name{Kind: sealedRetry, IDs: [3]uint64{uint64(block), uint64(entry)}}
}

func kvName(destination string, hash []byte) seal.Name {
	return seal.Name{Kind: sealedKV, Text: string(hash) + destination}
}

func identityName(apiKey, kind string, hash []byte) seal.Name {
	return seal.Name{Kind: sealedIdentity, Text: string(hash) + apiKey + "\x00" + kind}
}

func holdName(lane LaneID, hash []byte) seal.Name {
	return seal.Name{Kind: sealedHold, IDs: [3]uint64{uint64(lane)}, Text: string(hash)}
}

func problemName(letter int64) seal.Name {
	return seal.Name{Kind: sealedProblem, IDs: [3]uint64{uint64(letter)}}
}

func exportName(id int64, column string) seal.Name {
	return seal.Name{Kind: sealedExport, IDs: [3]uint64{uint64(id)}, Text: column}
}

func cacheName(key string) seal.Name { return seal.Name{Kind: sealedCache, Text: key} }

// sealBlob returns blob as it is stored. What it returns is valid until the next call on the connection.
func (c *conn) sealBlob(blob []byte, name seal.Name) []byte {
	if !c.box.Seals() {
		return blob
	}
	c.sealed = c.box.Seal(append(slices.Grow(c.sealed[:0], 1+len(blob)+seal.Overhead), codecSealed), blob, name)
	return c.sealed
}

// openBlob is the inverse of sealBlob.
func (c *conn) openBlob(stored []byte, name seal.Name) ([]byte, error) {
	if len(stored) == 0 || stored[0] != codecSealed {
		return stored, nil
	}
	return c.box.Open(nil, stored[1:], name)
}

// sealTexts returns texts as a column holds them that nobody looks up: sealed, as a BLOB, or as it is, where it is one and there is no key that seals.
func (c *conn) sealTexts(name seal.Name, texts ...string) any {
	if !c.box.Seals() {
		return texts[0]
	}
	return c.box.Seal(nil, appendParts(nil, texts), name)
}

// openTexts is the inverse of sealTexts: n texts, the first one alone where they are not sealed.
func (c *conn) openTexts(v driver.Value, name seal.Name, n int) ([]string, error) {
	texts := make([]string, n)
	stored, sealed := v.([]byte)
	if !sealed {
		texts[0] = toString(v)
		return texts, nil
	}
	data, err := c.box.Open(nil, stored, name)
	for i := range texts {
		if err != nil {
			return nil, err
		}
		texts[i], data, err = cutPart(data)
	}
	return texts, err
}

// openNote is openTexts of one that nothing depends on.
func (c *conn) openNote(v driver.Value, name seal.Name) string {
	texts, err := c.openTexts(v, name, 1)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return texts[0]
}

// cutPart is the inverse of appendParts for the first part.
func cutPart(data []byte) (part string, rest []byte, err error) {
	size, n := binary.Uvarint(data)
	if n <= 0 || size > uint64(len(data)-n) {
		return "", nil, fmt.Errorf("%w: texts are cut", ErrDamaged)
	}
	data = data[n:]
	return string(data[:size]), data[size:], nil
}

// hashed returns what a column holds by which a row is looked up: a keyed hash where data is sealed, else the text, the last of parts. The others say what it is.
func (c *conn) hashed(parts ...string) any { return hashed(c.lookup, parts...) }

func hashed(l *seal.Lookup, parts ...string) any {
	if l == nil {
		return parts[len(parts)-1]
	}
	return l.Sum(parts...)
}

// hashedUnlessEmpty is hashed for what a row may be without.
func (c *conn) hashedUnlessEmpty(kind, text string) any {
	if text == "" {
		return ""
	}
	return c.hashed(kind, text)
}

// letterName binds what is sealed of a dead letter to it, and to the part of it that it is.
func letterName(d *DeadLetter, part string) seal.Name {
	return seal.Name{Kind: sealedLetter, IDs: [3]uint64{d.Offset, uint64(d.Index), uint64(toMillis(d.At))}, Text: part + " " + d.Destination}
}

// storedLetter is what is stored of a dead letter's texts and records. Its person is kept in lower case, for SQLite compares ASCII only in any case.
type storedLetter struct {
	eventID, eventType, person any
	error                      any // with the three before it, where it is sealed
	crc                        int64
	event, original            []byte
}

func (c *conn) storedLetter(d *DeadLetter) storedLetter {
	person := strings.ToLower(d.Person)
	l := storedLetter{
		eventID: c.hashedUnlessEmpty("event_id", d.EventID), eventType: c.hashedUnlessEmpty("event_type", d.EventType), person: c.hashedUnlessEmpty("person", person),
		error: c.sealTexts(letterName(d, "texts"), cut(d.Error, 2000), d.EventID, d.EventType, person),
		event: c.sealRecord(d, "event", d.Event), original: c.sealRecord(d, "original", d.Original),
	}
	l.crc = int64(letterSum(l.event, l.original))
	return l
}

// sealRecord returns a record of a dead letter as it is stored; nil stays nil.
func (c *conn) sealRecord(d *DeadLetter, part string, record []byte) []byte {
	if record == nil || !c.box.Seals() {
		return record
	}
	return c.box.Seal(make([]byte, 0, len(record)+seal.Overhead), record, letterName(d, part))
}

// openLetter puts the true texts and records of a dead letter in the place of those that its row has. errText is the column error; the other texts and the records stand in d.
func (c *conn) openLetter(d *DeadLetter, errText driver.Value) error {
	if _, sealed := errText.([]byte); !sealed {
		d.Error = toString(errText)
		return nil
	}
	texts, err := c.openTexts(errText, letterName(d, "texts"), 4)
	if err != nil {
		return err
	}
	d.Error, d.EventID, d.EventType, d.Person = texts[0], texts[1], texts[2], texts[3]
	for part, record := range map[string]*[]byte{"event": &d.Event, "original": &d.Original} {
		if *record == nil {
			continue
		}
		if *record, err = c.box.Open(nil, *record, letterName(d, part)); err != nil {
			return err
		}
	}
	return nil
}

// sealState is what the table state says of encryption.
type sealState struct {
	hashKey   []byte // plain or sealed
	lookupKey []byte // sealed; nil: there is none
	hashed    int64  // see the schema
	keys      []seal.KeyID
}

// plainKey stands among keys for what is not sealed.
var plainKey seal.KeyID

// Values of the column hashed of state.
const (
	lookupsPlain  = 0
	lookupsHashed = 1
	lookupsMixed  = 2 // the process ended while they were changed
)

func (c *conn) sealState() (st sealState, err error) {
	var keys string
	err = c.query(`SELECT hash_key, lookup_key, hashed, keys FROM state WHERE id = 1`, func(row []driver.Value) error {
		st.hashKey, st.lookupKey, st.hashed, keys = toBytes(row[0]), toBytes(row[1]), toInt(row[2]), toString(row[3])
		return nil
	})
	if err != nil {
		return st, err
	}
	for text := range strings.SplitSeq(keys, ",") {
		if text == "" {
			continue
		}
		id, err := seal.ParseKeyID(text)
		if err != nil {
			return st, fmt.Errorf("%w: keys: %w", ErrDamaged, err)
		}
		st.keys = append(st.keys, id)
	}
	if len(st.keys) == 0 {
		st.keys = []seal.KeyID{plainKey}
	}
	return st, nil
}

func (st *sealState) write(c *conn) error {
	keys := make([]string, len(st.keys))
	for i, id := range st.keys {
		keys[i] = id.String()
	}
	var lookup any
	if st.lookupKey != nil {
		lookup = st.lookupKey
	}
	return c.exec(`UPDATE state SET hash_key = ?, lookup_key = ?, hashed = ?, keys = ? WHERE id = 1`, st.hashKey, lookup, st.hashed, strings.Join(keys, ","))
}

// open returns the keys of hashes, opened, or says which key is missing.
func (st *sealState) open(box *seal.Box) (hashKey []byte, lookup *seal.Lookup, err error) {
	for _, id := range st.keys {
		if id != plainKey && !box.Has(id) {
			return nil, nil, seal.MissingKey(id)
		}
	}
	hashKey = st.hashKey
	if len(hashKey) > hashKeyBytes {
		if hashKey, err = box.Open(nil, hashKey, seal.Name{Kind: sealedHashKey}); err != nil {
			return nil, nil, fmt.Errorf("the key of hashes: %w", err)
		}
	}
	if len(hashKey) != hashKeyBytes {
		return nil, nil, fmt.Errorf("%w: no state", ErrDamaged)
	}
	if st.lookupKey == nil {
		return hashKey, nil, nil
	}
	key, err := box.Open(nil, st.lookupKey, seal.Name{Kind: sealedLookup})
	if err != nil {
		return nil, nil, fmt.Errorf("the key of lookups: %w", err)
	}
	return hashKey, seal.NewLookup(key), nil
}

// seal seals the keys of hashes as the box says now, and makes one for lookups if that is needed.
func (st *sealState) seal(box *seal.Box, hashKey []byte) error {
	key := []byte(nil)
	if st.lookupKey != nil {
		var err error
		if key, err = box.Open(nil, st.lookupKey, seal.Name{Kind: sealedLookup}); err != nil {
			return err
		}
	}
	id, seals := box.Sealing()
	if !slices.Contains(st.keys, id) {
		st.keys = append(st.keys, id)
	}
	if !seals {
		st.hashKey = hashKey
		return nil
	}
	if key == nil {
		key = seal.NewLookupKey()
	}
	st.hashKey = box.Seal(nil, hashKey, seal.Name{Kind: sealedHashKey})
	st.lookupKey = box.Seal(nil, key, seal.Name{Kind: sealedLookup})
	return nil
}

// asWanted says whether everything is sealed, or plain, as the box says now, as far as what opens a store needs to know.
func (st *sealState) asWanted(box *seal.Box) bool {
	id, seals := box.Sealing()
	sealed := len(st.hashKey) > hashKeyBytes
	if sealed != seals || (st.hashed == lookupsHashed) != seals || !slices.Contains(st.keys, id) {
		return false
	}
	now, err := seal.ID(st.hashKey)
	return !sealed || err == nil && now == id
}

// openSealing prepares an open store for the keys that it was given: it refuses when one is missing, and has what is looked up sealed, or plain, as they say. The rest
// may take its time, see Reseal.
func (s *Store) openSealing() error {
	st, err := s.w.sealState()
	if err != nil {
		return err
	}
	hashKey, lookup, err := st.open(s.box)
	if err != nil {
		return err
	}
	s.setHashKey(hashKey)
	s.w.lookup = lookup
	if st.asWanted(s.box) {
		s.keysLeft.Store(&st.keys)
		return nil
	}
	id, seals := s.box.Sealing()
	empty, err := s.isEmpty()
	if err != nil {
		return err
	}
	if empty { // then nothing is hashed with it either, and the one that is there has been on the disk in plain
		hashKey = make([]byte, hashKeyBytes)
		rand.Read(hashKey)
		s.setHashKey(hashKey)
		st.keys = []seal.KeyID{id}
	}
	changes := (st.hashed == lookupsHashed) != seals || st.hashed == lookupsMixed
	if changes {
		st.hashed = lookupsMixed
	}
	if err := st.seal(s.box, hashKey); err != nil {
		return err
	}
	if err := s.inTx(func(*tx) error { return st.write(s.w) }); err != nil {
		return err
	}
	if _, s.w.lookup, err = st.open(s.box); err != nil {
		return err
	}
	if changes {
		if err := s.changeLookups(&st, seals); err != nil {
			return fmt.Errorf("encrypt what is looked up: %w", err)
		}
	}
	s.keysLeft.Store(&st.keys)
	return nil
}

// isEmpty says whether nothing was ever put into the store.
func (s *Store) isEmpty() (bool, error) {
	sql := `SELECT (SELECT next_block > 1 OR position > 0 OR bulk_position > 0 FROM state)`
	for _, table := range []string{"identities", "kv", "dead_letters", "holds", "outcomes", "memories", "retries", "exports", "seen", "known", "forgotten", "lanes"} {
		sql += ` OR EXISTS (SELECT 1 FROM ` + table + `)`
	}
	used, err := s.w.queryInt(sql)
	return used == 0, err
}

// prepareReaders gives the read connections what they need to open rows.
func (s *Store) prepareReaders() error {
	for range s.opened {
		c := <-s.readers
		err := s.prepareReader(c)
		s.readers <- c
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) prepareReader(c *conn) error {
	c.box = s.box
	st, err := c.sealState()
	if err != nil {
		return err
	}
	if st.hashed == lookupsMixed {
		return errors.New("the router was stopped while it encrypted or decrypted the store: start it once more")
	}
	hashKey, lookup, err := st.open(s.box)
	if err != nil {
		return err
	}
	s.setHashKey(hashKey)
	c.lookup, s.lookup = lookup, lookup
	return nil
}

// changeLookups hashes what is looked up, or brings its texts back. A process that ends meanwhile is no harm: the next one goes through all rows again.
func (s *Store) changeLookups(st *sealState, seals bool) error {
	rows, err := s.w.queryInt(`SELECT (SELECT count(*) FROM identities) + (SELECT count(*) FROM dead_letters) + (SELECT count(*) FROM kv)`)
	if err != nil {
		return err
	}
	if rows > 0 {
		s.opts.Logger.Info("the store is being "+sealingWord(seals)+": first what is looked up, which takes a second for some 10,000 rows", "store", s.path, "rows", rows)
	}
	opened := s.w.lookup
	if !seals {
		s.w.lookup = nil
	}
	for _, table := range lookedUpTables {
		if err := s.resealTable(table, s.inTx); err != nil {
			return err
		}
	}
	st.hashed = lookupsHashed
	if !seals {
		st.hashed, st.lookupKey = lookupsPlain, nil
		opened = nil
	}
	s.w.lookup = opened
	return s.inTx(func(*tx) error { return st.write(s.w) })
}

func sealingWord(seals bool) string {
	if seals {
		return "encrypted"
	}
	return "decrypted"
}

// inTx runs do in a transaction of its own, while the writer does not run yet.
func (s *Store) inTx(do func(*tx) error) error {
	if err := s.begin(); err != nil {
		return err
	}
	t := s.newTx()
	err := do(t)
	if err == nil {
		err = t.writeLanes()
	}
	if err := s.end(err); err != nil {
		return err
	}
	t.adoptLanes()
	return nil
}

// KeysLeft are the ids of the keys with which something in the store may be sealed; the zero id stands for what is plain. Once it is only one, the others are not needed
// any more.
func (s *Store) KeysLeft() []seal.KeyID {
	if s.readOnly {
		var keys []seal.KeyID
		_ = s.read(func(c *conn) error {
			st, err := c.sealState()
			keys = st.keys
			return err
		})
		return keys
	}
	return *s.keysLeft.Load()
}

// isAsWanted says whether what begins with head, sealed or not, is as the keys say now.
func (c *conn) isAsWanted(sealed bool, head []byte) bool {
	want, seals := c.box.Sealing()
	if !sealed || !seals {
		return sealed == seals
	}
	return bytes.HasPrefix(head, want.Head())
}

// unopened is the error of a row that can not be opened: ErrKey stays what it is, for the row is sound.
func unopened(err error) error {
	if errors.Is(err, ErrKey) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}
