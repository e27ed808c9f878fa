package store

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// KindEmail is the kind of an id that is an e-mail.
const KindEmail = "email"

// PersonID is one of the ids by which a person is known.
type PersonID struct {
	Kind   string // email, or that of an Identity
	APIKey string // with whose events it comes; "": with those of any, as every e-mail
	Value  string // an e-mail in lower case
}

// Forgotten says since when a person is forgotten: what the logs hold of them below these positions is not delivered.
type Forgotten struct {
	At                     time.Time // in milliseconds; the same for all ids of a person, and only for those
	Position, BulkPosition uint64
	EmailKnown             bool // one of the person's ids is an e-mail; the store finds that out
}

// forgottenMark is what is noted of one id.
type forgottenMark struct {
	Forgotten
	isEmail bool
}

type forgottenHash [sha256.Size]byte

// forgottenSet is what the store has in memory of persons who are forgotten. It is never changed.
type forgottenSet struct {
	marks      map[forgottenHash]forgottenMark
	emails     map[int64]bool // of whom an e-mail is known, by Forgotten.At in Unix milliseconds
	live, bulk uint64         // the greatest positions
}

// forgottenHash names an id among those that are forgotten. The key is the store's own secret.
func (s *Store) forgottenHash(id PersonID) (h forgottenHash) {
	mac := hmac.New(sha256.New, s.forgetKey)
	mac.Write(appendParts(nil, []string{"forgotten", id.Kind, id.APIKey, id.Value}))
	mac.Sum(h[:0])
	return h
}

// Forgets says below which positions of the logs there may be persons who are forgotten; 0 where nobody is.
func (s *Store) Forgets() (live, bulk uint64) {
	set := s.forgotten.Load()
	if set == nil {
		return 0, 0
	}
	return set.live, set.bulk
}

// accountMark parts an API key from the account within which an id is known. No id of an API key holds one.
const accountMark = "\x00"

// AnyAccount is PersonID.APIKey of an id in whatever account of an API key.
func AnyAccount(apiKey string) string { return apiKey + accountMark }

// Names are what stands for an id: itself, the same id in whatever account of its API key, and with whatever API key.
func (id PersonID) Names() []PersonID { return append([]PersonID{id}, id.wider()...) }

// wider is Names without the id itself.
func (id PersonID) wider() (all []PersonID) {
	if apiKey, account, ok := strings.Cut(id.APIKey, accountMark); ok && account != "" {
		all = append(all, PersonID{Kind: id.Kind, APIKey: AnyAccount(apiKey), Value: id.Value})
	}
	if id.APIKey != "" {
		all = append(all, PersonID{Kind: id.Kind, Value: id.Value})
	}
	return all
}

// Account is the account within which an id is known, and the API key; "" for none.
func (id PersonID) Account() (apiKey, account string) {
	apiKey, account, _ = strings.Cut(id.APIKey, accountMark)
	return apiKey, account
}

// Forgotten says whether an id is that of a person who is forgotten, as one of its own API key or of all.
func (s *Store) Forgotten(id PersonID) (f Forgotten, ok bool) {
	set := s.forgotten.Load()
	if set == nil || len(set.marks) == 0 {
		return f, false
	}
	mark, ok := set.marks[s.forgottenHash(id)]
	for wider := id.wider(); !ok && len(wider) > 0; wider = wider[1:] {
		mark, ok = set.marks[s.forgottenHash(wider[0])]
	}
	mark.EmailKnown = set.emails[toMillis(mark.At)]
	return mark.Forgotten, ok
}

// ForgottenWith returns the ids that were marked as those of the persons of whom ids are, by a call that has not finished. Such an id may have become somebody else's since.
func (s *Store) ForgottenWith(ctx context.Context, ids []PersonID) (with []PersonID, err error) {
	persons := map[int64]bool{}
	for _, id := range ids {
		if f, ok := s.Forgotten(id); ok {
			persons[toMillis(f.At)] = true
		}
	}
	if len(persons) == 0 {
		return nil, nil
	}
	err = s.read(func(c *conn) error {
		return c.query(`SELECT hash, at, id FROM forgotten`, func(row []driver.Value) error {
			if !persons[toInt(row[1])] {
				return ctx.Err()
			}
			text, err := c.openTexts(row[2], forgottenName(toBytes(row[0])), 1)
			if err != nil {
				return fmt.Errorf("an id of a person who is forgotten: %w", err)
			}
			var parts [3]string
			if err := json.Unmarshal([]byte(text[0]), &parts); err != nil {
				return fmt.Errorf("%w: an id of a person who is forgotten: %w", ErrDamaged, err)
			}
			with = append(with, PersonID{Kind: parts[0], APIKey: parts[1], Value: parts[2]})
			return ctx.Err()
		})
	})
	return with, err
}

// loadForgotten is how Open fills the set.
func (s *Store) loadForgotten() error {
	marks := map[forgottenHash]forgottenMark{}
	err := s.w.query(`SELECT hash, at, position, bulk_position, is_email FROM forgotten`, func(row []driver.Value) error {
		if hash := toBytes(row[0]); len(hash) == sha256.Size {
			f := Forgotten{At: toTime(row[1]), Position: uint64(toInt(row[2])), BulkPosition: uint64(toInt(row[3]))}
			marks[forgottenHash(hash)] = forgottenMark{f, toInt(row[4]) != 0}
		}
		return nil
	})
	s.adoptForgotten(marks)
	return err
}

func (s *Store) adoptForgotten(marks map[forgottenHash]forgottenMark) {
	set := &forgottenSet{marks: marks, emails: map[int64]bool{}}
	for _, f := range marks {
		set.live, set.bulk = max(set.live, f.Position), max(set.bulk, f.BulkPosition)
		if f.isEmail {
			set.emails[toMillis(f.At)] = true
		}
	}
	s.forgotten.Store(set)
}

// identitiesPerRead is how many identities are looked through in one go: meanwhile others wait for the connection.
const identitiesPerRead = 20_000

// ExpandPerson returns ids with all others that the identity memory knows of the same person: the e-mails that go with them, and all ids that go with those, of
// all API keys. More than most of them are an error: then they are not one person's.
func (s *Store) ExpandPerson(ctx context.Context, ids []PersonID, most int) ([]PersonID, error) {
	found, named := map[PersonID]bool{}, map[PersonID]bool{}
	for _, id := range ids {
		found[id], named[id] = true, true
	}
	for { // ends: what the second pass finds goes with e-mails that are known
		before := len(found)
		err := s.eachIdentity(ctx, func(id *Identity) error {
			email := PersonID{Kind: KindEmail, Value: strings.ToLower(id.Email)}
			own := PersonID{Kind: id.Kind, APIKey: id.APIKey, Value: id.Value}
			switch {
			case found[email]:
				found[own] = true
			case slices.ContainsFunc(own.Names(), func(id PersonID) bool { return named[id] }): // another one may have become somebody else's since it was found
				found[email], found[own] = true, true
			}
			if len(found) > most {
				return fmt.Errorf("they go with more than %d ids, which can not be one person's: name the API key, or one of the e-mails", most)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(found) == before {
			break
		}
	}
	all := make([]PersonID, 0, len(found))
	for id := range maps.Keys(found) {
		all = append(all, id)
	}
	return all, nil
}

// eachIdentity calls each with every identity. It holds no connection for long.
func (s *Store) eachIdentity(ctx context.Context, each func(*Identity) error) error {
	last := [3]driver.Value{"", "", ""} // as they are stored
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := 0
		err := s.read(func(c *conn) error {
			return c.query(`SELECT api_key, kind, value, email, server, seen, sealed, sum FROM identities WHERE (api_key, kind, value) > (?, ?, ?)
				ORDER BY api_key, kind, value LIMIT ?`, func(row []driver.Value) error {
				n++
				last = [3]driver.Value{row[0], row[1], row[2]}
				id, err := c.rowIdentity(row)
				if err != nil && !s.isDamage(err) {
					return err
				} // what is damaged goes by what stands there all the same
				return each(&id)
			}, last[0], last[1], last[2], identitiesPerRead)
		})
		if err != nil || n < identitiesPerRead {
			return err
		}
	}
}

// MarkForgotten notes that a person with these ids is forgotten, with what the logs hold below the positions. What was taught of the ids before, Identity does not
// tell any more; ExpandPerson still goes by it. On return that is on disk.
func (s *Store) MarkForgotten(ctx context.Context, ids []PersonID, f Forgotten) error {
	f.At = toTime(toMillis(f.At))
	return s.submit(ctx, &request{done: make(chan struct{}), do: func(t *tx) error {
		marks := t.forgottenMarks()
		for _, id := range ids {
			hash := s.forgottenHash(id)
			was := marks[hash]
			now := forgottenMark{Forgotten{At: f.At, Position: max(f.Position, was.Position), BulkPosition: max(f.BulkPosition, was.BulkPosition)}, id.Kind == KindEmail}
			marks[hash] = now
			text, err := json.Marshal([...]string{id.Kind, id.APIKey, id.Value})
			if err != nil {
				return err
			}
			err = s.w.exec(`INSERT OR REPLACE INTO forgotten (hash, at, position, bulk_position, is_email, id) VALUES (?, ?, ?, ?, ?, ?)`,
				hash[:], now.At, now.Position, now.BulkPosition, now.isEmail, s.w.sealTexts(forgottenName(hash[:]), string(text)))
			if err != nil {
				return err
			}
			if err := t.hideIdentity(id); err != nil {
				return err
			}
		}
		t.forgotten = marks
		return nil
	}})
}

// forgottenMarks are the marks as the transaction has them, to be changed.
func (t *tx) forgottenMarks() map[forgottenHash]forgottenMark {
	if t.forgotten != nil {
		return t.forgotten
	}
	if set := t.s.forgotten.Load(); set != nil && len(set.marks) > 0 {
		return maps.Clone(set.marks)
	}
	return map[forgottenHash]forgottenMark{}
}

// hideIdentity has an identity count as not there, so that whatever is taught of the id from now on replaces it.
func (t *tx) hideIdentity(id PersonID) error {
	if id.Kind == KindEmail {
		return nil
	}
	t.hidden = append(t.hidden, idKey{id.APIKey, id.Kind, id.Value})
	if id.APIKey != "" {
		return t.s.w.exec(`UPDATE identities SET server = 0, seen = 0 WHERE api_key = ? AND kind = ? AND value = ?`, id.APIKey, id.Kind, t.s.w.hashed("identity", id.Kind, id.Value))
	}
	return nil // ExpandPerson has found those that there are
}

// EndForgotten takes the marks of these ids away, unless they were set anew since f, and with them what was taught of the ids before. It returns how many
// identities that were.
func (s *Store) EndForgotten(ctx context.Context, ids []PersonID, f Forgotten) (identities int, err error) {
	f.At = toTime(toMillis(f.At))
	err = s.submit(ctx, &request{done: make(chan struct{}), do: func(t *tx) error {
		identities = 0
		marks := t.forgottenMarks()
		for _, id := range ids {
			hash := s.forgottenHash(id)
			if now := marks[hash]; !now.At.After(f.At) {
				delete(marks, hash)
				if err := s.w.exec(`DELETE FROM forgotten WHERE hash = ?`, hash[:]); err != nil {
					return err
				}
			}
			if id.Kind == KindEmail {
				continue
			}
			t.hidden = append(t.hidden, idKey{id.APIKey, id.Kind, id.Value})
			err := s.w.query(`DELETE FROM identities WHERE api_key = ? AND kind = ? AND value = ? AND seen = 0 RETURNING 1`, func([]driver.Value) error {
				identities++
				return nil
			}, id.APIKey, id.Kind, s.w.hashed("identity", id.Kind, id.Value))
			if err != nil {
				return err
			}
		}
		t.forgotten = marks
		return nil
	}})
	return identities, err
}

// DropForgotten takes all marks away. For when nothing is left that was there when they were set.
func (s *Store) DropForgotten(ctx context.Context) error {
	if set := s.forgotten.Load(); set == nil || len(set.marks) == 0 {
		return nil
	}
	return s.submit(ctx, &request{done: make(chan struct{}), do: func(t *tx) error {
		t.forgotten = map[forgottenHash]forgottenMark{}
		return s.w.exec(`DELETE FROM forgotten`)
	}})
}
