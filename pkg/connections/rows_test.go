package connections

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
)

// TestRowsAreBound holds that what is sealed of an account is good for it, its app and its hub alone: somebody who can write into the database gives nobody another's tokens.
func TestRowsAreBound(t *testing.T) {
	f := func(name, change string) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				r.mustConnect("a1", hubA)
				r.mustConnect("a2", hubB)
				r.stop()
				db, err := sql.Open("sqlite", filepath.Join(r.dir, "router.db"))
				if err != nil {
					t.Fatal(err)
				}
				_, err = db.Exec(change)
				db.Close()
				if err != nil {
					t.Fatal(err)
				}
				r.start()
				token, err := r.s.Token(t.Context(), "crm", "a1", "")
				if !isBlocked(err) || !strings.Contains(err.Error(), "can not be read") || token != "" || r.status("a1") != ReconnectNeeded {
					t.Errorf("got a token %t, %v, status %q", token != "", err, r.status("a1"))
				}
			})
		})
	}
	f("another account's", `UPDATE connections SET sealed = (SELECT sealed FROM connections WHERE account = 'a2') WHERE account = 'a1'`)
	f("another hub", `UPDATE connections SET hub = '1002' WHERE account = 'a1'`)
	f("plain", `UPDATE connections SET sealed = '{"access":"x","refresh":"y"}' WHERE account = 'a1'`)
}
