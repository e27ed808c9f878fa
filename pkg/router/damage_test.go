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
