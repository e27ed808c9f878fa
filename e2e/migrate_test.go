package e2e

import (
	"context"
	encoding "encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestOlderDirectories starts the router on data directories that older ones left when they were killed, one of each schema of the store, with blocks of the formats of their time: testdata/migrations. HubSpot did not
// answer then. What waited is delivered, and the dead letter is still there.
func TestOlderDirectories(t *testing.T) {
	t.Parallel()
	archives, err := filepath.Glob("testdata/migrations/*.tar.gz")
	if err != nil || len(archives) != 5 {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
	for _, archive := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".tar.gz"), func(t *testing.T) {
			t.Parallel()
			h := newHub(t, sandbox.Options{})
			dir := t.TempDir()
			unpack(t, archive, dir)
			config := configure(t, dir, h.url)
			p := start(t, config)
			p.drain(30 * time.Second)
			if err := p.terminate(); err != nil {
				t.Error(err)
			}
			for email, want := range map[string]string{"p0@example.com": "3", "p1@example.com": "1", "p2@example.com": "5"} {
				if c, ok := h.Contact(email); !ok || c.Properties["seq"] != want {
					t.Errorf("contact %s: %v, seq %q, want %s", email, ok, c.Properties["seq"], want)
				}
			}
			var marks []string
			for _, e := range events(h, "step") {
				marks = append(marks, e.Properties["mark"])
			}
			if fmt.Sprint(marks) != "[m2 m4 m6]" {
				t.Errorf("events %v", marks)
			}
			if list := run(t, dir, binary, "deadletters", "list", "--config", config); !strings.Contains(list, "no address") || strings.Count(list, "\n") > 3 {
				t.Errorf("dead letters: %s", list)
			}
		})
	}
}

// unpack unpacks a .tgz in a folder.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	if out, err := exec.Command("tar", "-xzf", archive, "--no-same-owner", "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v\n%s", archive, err, out)
	}
}

// TestNewerDirectories: a data directory that a newer router has written is refused, and left as it is.
func TestNewerDirectories(t *testing.T) {
	t.Parallel()
	h := newHub(t, sandbox.Options{})
	dir := t.TempDir()
	config := configure(t, dir, h.url)
	p := start(t, config)
	if status, answer, err := post(clientFor(t), p.url, `{"event_type":"user_identify","user":{"email":"a@b.co","seq":1}}`); status != 200 {
		t.Fatal(status, answer, err)
	}
	p.drain(30 * time.Second)
	if err := p.terminate(); err != nil {
		t.Fatal(err)
	}
	f := func(file string, change func([]byte), want ...string) {
		t.Helper()
		paths, err := filepath.Glob(filepath.Join(dir, "data", file))
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		old, err := os.ReadFile(paths[0])
		if err != nil {
			t.Fatal(err)
		}
		newer := append([]byte{}, old...)
		change(newer)
		if err := os.WriteFile(paths[0], newer, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // one that is not refused would run
		defer cancel()
		out, err := exec.CommandContext(ctx, binary, "serve", "--config", config).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%s: it ended with %v, want exit code 1", file, err)
		}
		for _, want := range want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: it says %q, without %q", file, out, want)
			}
		}
		if now, err := os.ReadFile(paths[0]); err != nil || string(now) != string(newer) {
			t.Errorf("%s was changed, %v", file, err)
		}
		if err := os.WriteFile(paths[0], old, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f("router.db", func(b []byte) { encoding.BigEndian.PutUint32(b[60:], 99) }, "unknown store format", "schema version 99")
	f("log/live/*.log", func(b []byte) {
		encoding.LittleEndian.PutUint32(b[8:], 99)
		encoding.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], crc32.MakeTable(crc32.Castagnoli)))
	}, "unknown log format", "version 99")
	start(t, config).kill() // as it was, it is taken
}
