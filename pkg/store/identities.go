package store

import (
	"database/sql/driver"
	"fmt"
	"sync"
)

// identityCache holds the identities asked for lately, and what was found not to be there, in two maps: when the young one
// is full it becomes the old one.
type identityCache struct {
	perMap int

	mu      sync.Mutex // guards the fields below
	young   map[idKey]cachedIdentity
	old     map[idKey]cachedIdentity
	version uint64 // changes with every commit of identities
	hits    int64
	misses  int64
}

type idKey struct{ apiKey, kind, value string }

// cachedIdentity is an identity without what its key says.
type cachedIdentity struct {
	email  string
	seen   int64 // Unix milliseconds; 0: never
	server bool
	found  bool
}

func (c cachedIdentity) identity(key idKey) Identity {
	if !c.found {
		return Identity{}
	}
	return Identity{APIKey: key.apiKey, Kind: key.kind, Value: key.value, Email: c.email, Server: c.server, Seen: toTime(c.seen)}
}

// identitiesPerMap is 5 MB a map, or so.
const identitiesPerMap = 32 << 10

func newIdentityCache(perMap int) *identityCache {
	return &identityCache{perMap: perMap, young: make(map[idKey]cachedIdentity)}
}

// Identity returns what is remembered of an id. A row that is damaged is as one that is not there.
func (s *Store) Identity(apiKey, kind, value string) (Identity, bool, error) {
	key := idKey{apiKey, kind, value}
	cached, version, ok := s.identities.get(key)
	if ok {
		return cached.identity(key), cached.found, nil
	}
	var found cachedIdentity
	err := s.read(func(c *conn) error {
		return c.query(`SELECT api_key, kind, value, email, server, seen, sealed, sum FROM identities WHERE api_key = ? AND kind = ? AND value = ?`, func(row []driver.Value) error {
			if toInt(row[5]) == 0 { // of a person who is forgotten: see MarkForgotten
				return nil
			}
			id, err := c.rowIdentity(row)
			if err != nil && s.isDamage(err) {
				s.tellDamaged(damagedIdentities, err)
				return nil
			}
			found = cachedIdentity{email: id.Email, server: id.Server, seen: toMillis(id.Seen), found: true}
			return err
		}, apiKey, kind, c.hashed("identity", kind, value))
	})
	if err != nil {
		return Identity{}, false, err
	}
	if !s.readOnly {
		s.identities.put(key, found, version)
	}
	return found.identity(key), found.found, nil
}

// rowIdentity reads the columns api_key, kind, value, email, server, seen, sealed, sum. With an ErrDamaged it returns what stands there.
func (c *conn) rowIdentity(row []driver.Value) (Identity, error) {
	id := Identity{
		APIKey: toString(row[0]), Kind: toString(row[1]), Value: toString(row[2]), Email: toString(row[3]), Server: toInt(row[4]) == 1, Seen: toTime(row[5]),
	}
	if sealed := toBytes(row[6]); sealed != nil {
		texts, err := c.openTexts(sealed, identityName(id.APIKey, id.Kind, toBytes(row[2])), 2)
		if err != nil {
			return id, fmt.Errorf("identity of API key %s: %w", id.APIKey, unopened(err))
		}
		id.Value, id.Email = texts[0], texts[1]
	} else if sumDiffers(row[7], identitySum(&id)) {
		return id, fmt.Errorf("identity of API key %.100s: %w", id.APIKey, errSum)
	}
	return id, nil
}

// identityColumns are the columns value, email, sealed and sum of an identity. A look-up by them is one by hashed with the same words.
func (c *conn) identityColumns(id *Identity) (value, email, sealed, sum any) {
	value, email = c.hashed("identity", id.Kind, id.Value), c.hashed("email", id.Email)
	if hash, ok := value.([]byte); ok {
		return value, email, c.sealTexts(identityName(id.APIKey, id.Kind, hash), id.Value, id.Email), nil
	}
	return value, email, nil, identitySum(id)
}

func (c *identityCache) get(key idKey) (_ cachedIdentity, version uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := c.young[key]
	if !ok {
		if id, ok = c.old[key]; ok {
			c.putLocked(key, id)
		}
	}
	if ok {
		c.hits++
	} else {
		c.misses++
	}
	return id, c.version, ok
}

// put keeps what was read, unless a commit came in between and it may be out of date.
func (c *identityCache) put(key idKey, id cachedIdentity, version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version == c.version {
		c.putLocked(key, id)
	}
}

func (c *identityCache) putLocked(key idKey, id cachedIdentity) {
	if len(c.young) >= c.perMap {
		c.young, c.old = make(map[idKey]cachedIdentity, c.perMap/4), c.young
	}
	c.young[key] = id
}

// clear forgets everything: rows went of which only what is stored is known.
func (c *identityCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	clear(c.young)
	clear(c.old)
}

// adopt takes over what a transaction put, and forgets what it could not replace.
func (c *identityCache) adopt(put []Identity, hidden []idKey) {
	if len(put)+len(hidden) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	for _, key := range hidden {
		delete(c.young, key)
		delete(c.old, key)
	}
	for _, id := range put {
		c.putLocked(idKey{id.APIKey, id.Kind, id.Value}, cachedIdentity{email: id.Email, server: id.Server, seen: toMillis(id.Seen), found: true})
	}
}

// putIdentities writes identities. One taught by a browser key does not replace one taught by a server key.
func (t *tx) putIdentities(identities []Identity) error {
	for i := range identities {
		id := identities[i]
		id.Seen = toTime(toMillis(id.Seen)) // as it reads back
		server := 0
		if id.Server {
			server = 1
		}
		replaced := false
		value, email, sealed, sum := t.s.w.identityColumns(&id)
		err := t.s.w.query(`INSERT INTO identities (api_key, kind, value, email, server, seen, sealed, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET email = excluded.email, server = excluded.server, seen = excluded.seen, sealed = excluded.sealed, sum = excluded.sum
			WHERE excluded.server >= server RETURNING 1`, func([]driver.Value) error {
			replaced = true
			return nil
		}, id.APIKey, id.Kind, value, email, server, id.Seen, sealed, sum)
		if err != nil {
			return err
		}
		if replaced {
			t.identities = append(t.identities, id)
		} else {
			t.hidden = append(t.hidden, idKey{id.APIKey, id.Kind, id.Value})
		}
	}
	return nil
}
