package router

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	_ "modernc.org/sqlite" // the database as an operator opens it

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// TestDamagedBlockIsGivenUp: bytes of a waiting block change on the disk. What can be read of it are dead letters, which name the events; the rest is counted; the
// other entries are delivered, and the lane ends empty.
func TestDamagedBlockIsGivenUp(t *testing.T) {
	f := func(name string, damage func(t *testing.T, g *rig), wantDead string, wantLost float64) {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { damagedBlockIsGivenUp(t, damage, wantDead, wantLost) })
		})
	}
	f("a letter of an event", func(t *testing.T, g *rig) {
		damageStore(t, g, marker, func(b []byte) { b[0] = 'x' })
	}, "e3 e4", 0)
	f("the syntax of an event", func(t *testing.T, g *rig) {
		damageStore(t, g, marker, func(b []byte) { b[0] = '"' })
	}, "e4", 1)
	f("all of it", func(t *testing.T, g *rig) {
		db, err := sql.Open("sqlite", filepath.Join(g.dir, "store", "router.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(`UPDATE blocks SET data = x'0102' WHERE id = 2`); err != nil {
			t.Fatal(err)
		}
	}, "", 2)
}

// marker stands in one event, and in the store as it is: nothing in it can be compressed.
const marker = "Zq#7Kx!9wV"

func damagedBlockIsGivenUp(t *testing.T, damage func(*testing.T, *rig), wantDead string, wantLost float64) {
	r := newRemote()
	blocked := true
	r.answer = func(call) []error {
		if blocked {
			return []error{destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})}
		}
		return nil
	}
	g := newRig(t, r, nil)
	var logs bytes.Buffer
	g.logs = &logs
	g.start()
	g.post(identify("a@b.co", 1), identify("b@b.co", 2))
	g.settleLog()
	g.post(`{"marker":"`+marker+`","event_type":"user_identify","user":{"email":"c@b.co","v":3}}`, identify("d@b.co", 4))
	g.settleLog()
	g.post(identify("c@b.co", 5))
	g.settleLog()
	g.stop()
	damage(t, g)
	blocked = false
	g.start()
	g.drain()
	for key, want := range map[string]string{"a@b.co": "1", "b@b.co": "2", "c@b.co": "5", "d@b.co": ""} {
		g.want(key, g.writes(key), want)
	}
	var dead []string
	for _, d := range g.deadLetters() {
		dead = append([]string{d.EventID}, dead...)
		if d.Reason != reasonDamaged || d.Lane != "contacts" || d.Destination != "crm" || !strings.Contains(d.Error, "damaged") {
			t.Errorf("dead letter %+v", d)
		}
	}
	g.want("dead letters", strings.Join(dead, " "), wantDead)
	if got := testutil.ToFloat64(g.router.metrics.lostVec.WithLabelValues("crm", "contacts")); got != wantLost {
		t.Errorf("%v entries are counted as lost, want %v", got, wantLost)
	}
	for _, want := range []string{"damaged and given up", `lane=contacts`, `entries=2`, fmt.Sprintf("lost=%v", wantLost)} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("the log has no %s: %s", want, logs.String())
		}
	}
	kept, err := os.ReadDir(filepath.Join(g.dir, "store", "damaged"))
	if err != nil || len(kept) != 1 {
		t.Errorf("kept aside: %d files, %v", len(kept), err)
	}
	outcomes, err := g.store.Outcomes(context.Background(), store.OutcomeQuery{EventID: "e4"})
	if err != nil || (len(outcomes) == 1 && outcomes[0].Reason == reasonDamaged) != (wantDead != "") {
		t.Errorf("what became of e4: %+v, %v", outcomes, err)
	}
	g.stop()
	g.start() // and it stays so
	g.drain()
	if done := g.forget(ForgetQuery{Email: annEmail}); done.Unreadable != 1 || done.KeptAside != 1 {
		t.Errorf("forgetting says that %d blocks can not be read, and that %d files went; want 1 and 1", done.Unreadable, done.KeptAside)
	}
	g.stop()
}

// damageStore changes bytes of the closed store where they stand.
func damageStore(t *testing.T, g *rig, what string, change func([]byte)) {
	t.Helper()
	path := filepath.Join(g.dir, "store", "router.db")
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.LastIndex(file, []byte(what))
	if i < 0 {
		t.Fatalf("%q does not stand in the store", what)
	}
	change(file[i : i+len(what)])
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
}

// settleLog waits until all that was posted is sorted.
func (g *rig) settleLog() {
	g.t.Helper()
	for began := time.Now(); g.router.live.unsorted() > 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > time.Hour {
			g.t.Fatal("not sorted after an hour")
		}
	}
}

// TestDamagedMemories: bytes of what is only remembered change on the disk. The router starts, writes nothing to whom it does not mean, and says what it does not know any more.
func TestDamagedMemories(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		g.post(`{"id":"first","event_type":"user_identify","user":{"id":"u1","email":"ann@b.co","v":1}}`)
		g.drain()
		g.stop()
		db, err := sql.Open("sqlite", filepath.Join(g.dir, "store", "router.db"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.Exec(`UPDATE identities SET email = 'amn@b.co'; UPDATE outcomes SET data = zeroblob(length(data)); UPDATE seen SET began = 0; UPDATE known SET mark = 1 - mark, bucket = 77;
			UPDATE memories SET data = zeroblob(length(data)); UPDATE cache SET value = x'7b'`)
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		g.start()
		g.post(`{"id":"first","event_type":"user_identify","user":{"id":"u1","email":"ann@b.co","v":9}}`, // a duplicate still
			`{"id":"unknown","event_type":"user_identify","user":{"id":"u1","v":2}}`, identify("bob@b.co", 3))
		g.drain()
		for key, want := range map[string]string{"amn@b.co": "", "ann@b.co": "1", "bob@b.co": "3"} {
			g.want(key, g.writes(key), want)
		}
		x, err := g.router.Explain(context.Background(), ExplainQuery{EventID: "first"})
		if err != nil || !strings.Contains(strings.Join(x.Notes, "\n"), "can not be read") {
			t.Errorf("explained as %+v, %v", x, err)
		}
		g.post(`{"event_type":"user_identify","user":{"id":"u1","email":"ann@b.co","v":4}}`) // teaches it anew
		g.drain()
		g.post(`{"event_type":"user_identify","user":{"id":"u1","v":5}}`)
		g.drain()
		g.want("ann", g.writes("ann@b.co"), "1 4 5")
		for _, table := range []string{"identities", "outcomes", "seen", "known"} {
			if g.store.DamagedRows()[table] == 0 {
				t.Errorf("nothing is counted of %s", table)
			}
		}
		g.stop()
	})
}

// TestDamagedLetterIsReplayedNot: letters of which the mark, the place or the record is damaged stay, and say so; the others are sent.
func TestDamagedLetterIsReplayedNot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		refuses := true
		r.answer = func(c call) []error {
			if refuses {
				return []error{destinations.Reject(errors.New("400"))}
			}
			return nil
		}
		g := newRig(t, r, nil)
		g.start()
		for n := range 5 {
			g.post(identify(fmt.Sprintf("p%d@b.co", n), n))
			g.drain()
		}
		g.stop()
		refuses = false
		g.open()
		if n, err := g.store.MarkReplay(context.Background(), store.DeadLetterQuery{}, store.Replay{AsIs: true}); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		g.closeFiles()
		db, err := sql.Open("sqlite", filepath.Join(g.dir, "store", "router.db"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.Exec(`UPDATE replays SET how = 'bs_is' WHERE letter = 1; UPDATE dead_letters SET lane = 'events' WHERE id = 2; UPDATE dead_letters SET event = zeroblob(length(event)) WHERE id = 3;
			UPDATE replays SET destination = 'crl' WHERE letter = 4`)
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		g.start()
		g.drain()
		time.Sleep(time.Hour)
		for n, want := range []string{"", "", "", "3", "4"} {
			g.want(fmt.Sprint("p", n), g.writes(fmt.Sprintf("p%d@b.co", n)), want)
		}
		left, err := g.store.DeadLetters(context.Background(), store.DeadLetterQuery{})
		if err != nil || len(left) != 3 {
			t.Errorf("%d are left, %v", len(left), err)
		}
		for _, d := range left {
			if d.ID > 3 || !strings.Contains(d.Problem, "damaged") {
				t.Errorf("left is %+v", d)
			}
		}
		if g.store.ReplaysLeft()["crm"] != 0 {
			t.Errorf("to be replayed still: %v", g.store.ReplaysLeft())
		}
		g.stop()
	})
}
