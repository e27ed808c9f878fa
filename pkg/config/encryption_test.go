package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/seal"
)

func TestEncryptionKeys(t *testing.T) {
	one, two := seal.NewKey(), seal.NewKey()
	file := filepath.Join(t.TempDir(), "key")
	f := func(section, inFile string, mode os.FileMode, seals bool, keys int, want string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(inFile), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		text := "api_keys: [{id: web, client_secret: js.web}]\ndestinations: {}\nserver:\n  encryption: " + strings.ReplaceAll(section, "FILE", file) + "\n"
		cfg, err := Parse("router.yaml", []byte(text), func(string) (string, bool) { return one, true })
		said := fmt.Sprint(err, cfg.Warnings)
		if want != "" && !strings.Contains(said, want) {
			t.Errorf("%s, file %q, mode %o: %s; want %q", section, inFile, mode, said, want)
		}
		if strings.Contains(said, one) || strings.Contains(said, two) {
			t.Errorf("%s: %s shows a key", section, said)
		}
		_, sealing := cfg.Server.Encryption.Keys.Sealing()
		if sealing != seals || len(cfg.Server.Encryption.Keys.IDs()) != keys {
			t.Errorf("%s, file %q: seals %v with %d keys, want %v and %d; %s", section, inFile, sealing, len(cfg.Server.Encryption.Keys.IDs()), seals, keys, said)
		}
		if err == nil && keys > 0 && !strings.Contains(strings.Join(cfg.Secrets(), " "), one) {
			t.Errorf("%s: the key is not among the secrets", section)
		}
	}
	f("{}", "", 0o600, false, 0, "")
	f("{key: "+one+"}", "", 0o600, true, 1, "")
	f("{key: '${env.KEY}', old_keys: ["+two+"]}", "", 0o600, true, 2, "")
	f("{old_keys: ["+one+"]}", "", 0o600, false, 1, "")
	f("{key_file: FILE}", "# of 2026\n"+one+"\n\n"+two+"\r\n", 0o600, true, 2, "")
	f("{key_file: FILE}", one, 0o440, true, 1, "can be read by its group")
	f("{key_file: FILE}", one, 0o604, false, 0, "open to everybody on this machine (mode 0604)")
	f("{key_file: FILE}", "# none", 0o600, false, 0, "has no key in it")
	f("{key_file: FILE, key: "+one+"}", one, 0o600, false, 0, "give one of them")
	f("{key_file: FILE.not}", one, 0o600, false, 0, "is not there")
	f("{key: short}", "", 0o600, false, 0, "must be 32 bytes")
	f("{key: "+one+", old_keys: [short]}", "", 0o600, false, 0, "server.encryption.old_keys[0]: must be 32 bytes")
}

// What stands elsewhere has tokens in it: with a key it is kept sealed, and read again with that key or, as an old one, beside another.
func TestKeepSealed(t *testing.T) {
	dir := t.TempDir()
	key := func() seal.Key {
		k, err := seal.ParseKey(seal.NewKey())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	one, two := key(), key()
	server := func(seals bool, keys ...seal.Key) Server {
		ring, err := seal.NewRing(seals, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return Server{DataDir: dir, Encryption: Encryption{Keys: ring}}
	}
	a := address(t, "https://keys.example.com")
	v := Version{Body: []byte("api_keys: [{client_secret: js.web}]"), At: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	reads := func(s Server, want string) {
		t.Helper()
		got, err := Kept(s, a)
		if said := fmt.Sprint(string(got.Body), err); !strings.Contains(said, want) {
			t.Errorf("kept is %s, want %s", said, want)
		}
	}
	onDisk := func() string {
		data, err := os.ReadFile(keptPath(dir, a.Part))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if err := Keep(server(true, one), a, v); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(onDisk(), "YXBpX2tleXM6") { // api_keys:, in base64
		t.Errorf("the kept version is plain: %s", onDisk())
	}
	reads(server(true, one), string(v.Body))
	reads(server(true, two, one), string(v.Body))
	reads(Server{DataDir: dir}, "key "+one.ID().String()+"; add it to server.encryption.old_keys")
	reseal := func(s Server) {
		t.Helper()
		if err := Reseal(s, a); err != nil {
			t.Fatal(err)
		}
	}
	reseal(server(true, two, one))
	reads(server(true, two), string(v.Body))
	reseal(server(false, two))
	reads(Server{DataDir: dir}, string(v.Body))
	reseal(server(true, one))
	reads(server(true, one), string(v.Body))
	before := onDisk()
	if reseal(server(true, one)); onDisk() != before {
		t.Error("what is sealed already is sealed again")
	}
}
