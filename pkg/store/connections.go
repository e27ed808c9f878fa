package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"eventrouter/pkg/seal"
)

// ErrUnsealed says that something secret was not kept, because no key among Options.Keys seals.
var ErrUnsealed = errors.New("there is no key to encrypt it with: set server.encryption.key")

// Connection is a customer's account that an app is connected to.
type Connection struct {
	App, Account string // which one; they are what it is found by
	Hub          string // the remote account
	HubDomain    string // by which people know it; "": not known
	Status       string
	Reason       string   // why it is not connected
	Scopes       []string // that were granted
	Since        time.Time
	Granted      time.Time
	Changed      time.Time
	Expires      time.Time // of the access token
	LastDelivery time.Time
	LastError    string // never a secret
	LastErrorAt  time.Time
	// Tokens and Choices are opaque, and sealed on disk. Without a key that seals, tokens are not kept at all.
	Tokens, Choices string
}

// ConnectionNotice is a change of a connection that somebody is to be told of.
type ConnectionNotice struct {
	ID                                int64
	App, Account, Hub, Status, Reason string
	At                                time.Time
}

// Connecting is somebody who is at the remote to connect an account.
type Connecting struct {
	ID           []byte // of 32 bytes, a hash
	App, Account string
	Expires      time.Time
	Secrets      [3]string // opaque, and sealed on disk
}

func connectionName(app, account, hub string) seal.Name {
	return seal.Name{Kind: sealedConnection, Text: app + "\x00" + account + "\x00" + hub}
}

func connectingName(id []byte) seal.Name {
	return seal.Name{Kind: sealedConnecting, Text: string(id)}
}

// Connections returns all connections, by app and account. What can not be opened of one is left out, and its error says which it is; the others are there.
func (s *Store) Connections() (all []Connection, err error) {
	var damaged []error
	err = s.read(func(c *conn) error {
		return c.query(`SELECT app, account, hub, status, reason, scopes, since, granted, changed, expires, last_delivery, last_error, last_error_at, sealed, hub_domain
			FROM connections ORDER BY app, account`, func(row []driver.Value) error {
			cn := Connection{
				App: toString(row[0]), Account: toString(row[1]), Hub: toString(row[2]), Status: toString(row[3]), Reason: toString(row[4]), Scopes: strings.Fields(toString(row[5])),
				Since: toTime(row[6]), Granted: toTime(row[7]), Changed: toTime(row[8]), Expires: toTime(row[9]), LastDelivery: toTime(row[10]),
				LastError: toString(row[11]), LastErrorAt: toTime(row[12]), HubDomain: toString(row[14]),
			}
			texts, err := c.openTexts(row[13], connectionName(cn.App, cn.Account, cn.Hub), 2)
			if err != nil {
				damaged = append(damaged, fmt.Errorf("connection of account %q of app %s: %w", cn.Account, cn.App, unopened(err)))
			} else {
				cn.Choices, cn.Tokens = texts[0], texts[1]
			}
			all = append(all, cn)
			return nil
		})
	})
	return all, errors.Join(append(damaged, err)...)
}

// PutConnection writes a connection in the place of the one with its app and account, and the notices with it. On return that is on disk.
func (s *Store) PutConnection(ctx context.Context, cn *Connection, notices ...ConnectionNotice) error {
	return s.change(ctx, nil, func(t *tx) error {
		c := t.s.w
		if !c.box.Seals() {
			return ErrUnsealed
		}
		err := c.exec(`INSERT INTO connections (app, account, hub, status, reason, scopes, since, granted, changed, expires, last_delivery, last_error, last_error_at, sealed, hub_domain)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (app, account) DO UPDATE SET hub = excluded.hub, status = excluded.status, reason = excluded.reason, scopes = excluded.scopes, since = excluded.since,
			granted = excluded.granted, changed = excluded.changed, expires = excluded.expires, last_delivery = excluded.last_delivery, last_error = excluded.last_error,
			last_error_at = excluded.last_error_at, sealed = excluded.sealed, hub_domain = excluded.hub_domain`,
			cn.App, cn.Account, cn.Hub, cn.Status, cn.Reason, strings.Join(cn.Scopes, " "), cn.Since, cn.Granted, cn.Changed, cn.Expires, cn.LastDelivery,
			cut(cn.LastError, 500), cn.LastErrorAt, c.sealTexts(connectionName(cn.App, cn.Account, cn.Hub), cn.Choices, cn.Tokens), cn.HubDomain)
		if err != nil {
			return err
		}
		return t.putNotices(notices)
	})
}

// NoteConnections writes when the connections were last delivered to and what went wrong last; of the others' columns nothing changes. Connections that are gone stay so.
func (s *Store) NoteConnections(ctx context.Context, all []Connection) error {
	return s.change(ctx, nil, func(t *tx) error {
		for i := range all {
			cn := &all[i]
			err := t.s.w.exec(`UPDATE connections SET last_delivery = ?, last_error = ?, last_error_at = ? WHERE app = ? AND account = ?`,
				cn.LastDelivery, cut(cn.LastError, 500), cn.LastErrorAt, cn.App, cn.Account)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Disconnected is an account that has disconnected, and when.
type Disconnected struct {
	App, Account string
	At           time.Time
}

// DeleteConnection removes a connection, and who is about to connect the account, remembers when, and writes the notices. What is remembered of accounts that disconnected before
// the time before is forgotten. See EraseDeleted for what may be left in the files.
func (s *Store) DeleteConnection(ctx context.Context, gone Disconnected, before time.Time, notices ...ConnectionNotice) error {
	return s.change(ctx, nil, func(t *tx) error {
		c := t.s.w
		return first(
			func() error {
				return c.exec(`DELETE FROM connections WHERE app = ? AND account = ?`, gone.App, gone.Account)
			},
			func() error {
				return c.exec(`DELETE FROM connecting WHERE app = ? AND account = ?`, gone.App, gone.Account)
			},
			func() error {
				return c.exec(`INSERT OR REPLACE INTO disconnected (app, account, at) VALUES (?, ?, ?)`, gone.App, gone.Account, gone.At)
			},
			func() error { return c.exec(`DELETE FROM disconnected WHERE at < ?`, before) },
			func() error { return t.putNotices(notices) },
		)
	})
}

// Disconnections returns the accounts of which it is remembered when they disconnected.
func (s *Store) Disconnections() (all []Disconnected, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT app, account, at FROM disconnected ORDER BY app, account`, func(row []driver.Value) error {
			all = append(all, Disconnected{toString(row[0]), toString(row[1]), toTime(row[2])})
			return nil
		})
	})
	return all, err
}

// EraseDeleted takes what was deleted out of the database's files, where it may stand between rows and in the write-ahead log. It reads the whole database. While others read
// what is older it waits; when ctx ends first, the error wraps ErrReaders and ctx's.
func (s *Store) EraseDeleted(ctx context.Context) error {
	if _, err := s.Scrub(ctx); err != nil {
		return err
	}
	return s.Truncate(ctx)
}

func (t *tx) putNotices(notices []ConnectionNotice) error {
	for i := range notices {
		n := &notices[i]
		err := t.s.w.exec(`INSERT INTO connection_notices (app, account, hub, status, reason, at) VALUES (?, ?, ?, ?, ?, ?)`, n.App, n.Account, n.Hub, n.Status, n.Reason, n.At)
		if err != nil {
			return err
		}
	}
	return nil
}

// ConnectionNotices returns the oldest notices that were not done with, at most limit.
func (s *Store) ConnectionNotices(limit int) (notices []ConnectionNotice, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT id, app, account, hub, status, reason, at FROM connection_notices ORDER BY id LIMIT ?`, func(row []driver.Value) error {
			notices = append(notices, ConnectionNotice{
				toInt(row[0]), toString(row[1]), toString(row[2]), toString(row[3]), toString(row[4]), toString(row[5]), toTime(row[6]),
			})
			return nil
		}, limit)
	})
	return notices, err
}

// ConnectionNoticesDone deletes the notices up to an id.
func (s *Store) ConnectionNoticesDone(ctx context.Context, last int64) error {
	return s.change(ctx, nil, func(t *tx) error { return t.s.w.exec(`DELETE FROM connection_notices WHERE id <= ?`, last) })
}

// MaxConnecting is how many people may be connecting one account, and MaxConnectingAll all accounts, at one time. The oldest give way.
const (
	MaxConnecting    = 16
	MaxConnectingAll = 20_000
)

// ForgetDisconnections forgets what is remembered of accounts that disconnected before a time.
func (s *Store) ForgetDisconnections(ctx context.Context, before time.Time) error {
	return s.change(ctx, nil, func(t *tx) error { return t.s.w.exec(`DELETE FROM disconnected WHERE at < ?`, before) })
}

// PutConnecting notes somebody who is connecting an account. Those who have expired before are forgotten.
func (s *Store) PutConnecting(ctx context.Context, g *Connecting, before time.Time) error {
	return s.change(ctx, nil, func(t *tx) error {
		c := t.s.w
		if !c.box.Seals() {
			return ErrUnsealed
		}
		return first(
			func() error { return c.exec(`DELETE FROM connecting WHERE expires < ?`, before) },
			func() error {
				return c.exec(`INSERT INTO connecting (id, app, account, expires, sealed) VALUES (?, ?, ?, ?, ?)`,
					g.ID, g.App, g.Account, g.Expires, c.sealTexts(connectingName(g.ID), g.Secrets[:]...))
			},
			func() error {
				return c.exec(`DELETE FROM connecting WHERE id IN (SELECT id FROM connecting WHERE app = ? AND account = ? ORDER BY expires DESC LIMIT -1 OFFSET ?)`, g.App, g.Account, MaxConnecting)
			},
			func() error {
				return c.exec(`DELETE FROM connecting WHERE id IN (SELECT id FROM connecting ORDER BY expires DESC LIMIT -1 OFFSET ?)`, MaxConnectingAll)
			},
		)
	})
}

// Connecting returns somebody who is connecting an account; false: there is nobody of that id, any more.
func (s *Store) Connecting(id []byte) (g Connecting, ok bool, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT app, account, expires, sealed FROM connecting WHERE id = ?`, func(row []driver.Value) error {
			texts, err := c.openTexts(row[3], connectingName(id), len(g.Secrets))
			if err != nil {
				return unopened(err)
			}
			g = Connecting{id, toString(row[0]), toString(row[1]), toTime(row[2]), [3]string(texts)}
			ok = true
			return nil
		}, id)
	})
	return g, ok, err
}

// TakeConnecting forgets somebody who is connecting; of several calls with one id only one returns true.
func (s *Store) TakeConnecting(ctx context.Context, id []byte) (ok bool, err error) {
	err = s.change(ctx, nil, func(t *tx) error {
		ok = false
		return t.s.w.query(`DELETE FROM connecting WHERE id = ? RETURNING 1`, func([]driver.Value) error {
			ok = true
			return nil
		}, id)
	})
	return ok && err == nil, err
}

// resealConnection leaves the tokens out where nothing is sealed any more: see Connection.Tokens.
func resealConnection(t *tx, key []driver.Value) (bytes int, err error) {
	c, id := t.s.w, toInt(key[0])
	var sealed any
	err = c.query(`SELECT app, account, hub, sealed FROM connections WHERE id = ?`, func(row []driver.Value) error {
		name := connectionName(toString(row[0]), toString(row[1]), toString(row[2]))
		texts, err := c.openTexts(row[3], name, 2)
		if err == nil {
			sealed = c.sealTexts(name, texts...)
		}
		return err
	}, id)
	if err != nil {
		return 0, err
	}
	return 0, c.exec(`UPDATE connections SET sealed = ? WHERE id = ?`, sealed, id)
}

func resealConnecting(t *tx, key []driver.Value) (bytes int, err error) {
	c, id := t.s.w, toBytes(key[0])
	if !c.box.Seals() {
		return 0, c.exec(`DELETE FROM connecting WHERE id = ?`, id)
	}
	var sealed any
	err = c.query(`SELECT sealed FROM connecting WHERE id = ?`, func(row []driver.Value) error {
		texts, err := c.openTexts(row[0], connectingName(id), 3)
		if err == nil {
			sealed = c.sealTexts(connectingName(id), texts...)
		}
		return err
	}, id)
	if err != nil {
		return 0, err
	}
	return 0, c.exec(`UPDATE connecting SET sealed = ? WHERE id = ?`, sealed, id)
}
