package store

import (
	"crypto/rand"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"eventrouter/pkg/seal"
)

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
	for _, table := range []string{"identities", "kv", "dead_letters", "holds", "outcomes", "memories", "retries", "exports", "seen", "known", "forgotten", "lanes", "connections", "connecting"} {
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
