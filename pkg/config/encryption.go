package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"eventrouter/pkg/seal"
)

// Encryption is `server.encryption`: what the data directory is encrypted with. The zero value: it is not.
type Encryption struct {
	Key      Secret     // key: 32 bytes as base64 or hex; what is written is sealed with it
	KeyFile  string     // key_file: a file with the key in its first line; further lines are old keys
	OldKeys  []Secret   // old_keys: what was sealed with them can be read
	Keys     *seal.Ring // all of them; nil: none
	FileKeys []Secret   // what stands in KeyFile
}

type encryption struct {
	Key     Secret   `yaml:"key"`
	KeyFile string   `yaml:"key_file"`
	OldKeys []Secret `yaml:"old_keys"`
}

// maxKeyFileBytes bounds a file of keys: a larger one is another file.
const maxKeyFileBytes = 64 << 10

// encryption reads the keys and makes the ring of them.
func (l *loader) encryption(raw encryption) (e Encryption) {
	e = Encryption{Key: raw.Key, KeyFile: raw.KeyFile, OldKeys: raw.OldKeys}
	if len(raw.OldKeys) == 0 {
		e.OldKeys = nil // [] and nothing are one
	}
	if l.withoutKeys {
		return e
	}
	ok := true
	fail := func(key, format string, args ...any) {
		ok = false
		l.fail(l.root, "server.encryption."+key, format, args...)
	}
	var keys []seal.Key
	add := func(path string, text Secret) {
		k, err := seal.ParseKey(string(text))
		if err != nil {
			fail(path, "%v", err)
			return
		}
		keys = append(keys, k)
	}
	if raw.Key != "" {
		add("key", raw.Key)
	}
	if raw.KeyFile != "" {
		lines, group, err := readKeyFile(raw.KeyFile)
		switch {
		case err != nil:
			fail("key_file", "%v", err)
		case raw.Key != "":
			fail("key_file", "stands beside server.encryption.key: give one of them, and what was used before in server.encryption.old_keys")
		case group:
			l.warn(l.root, "server.encryption.key_file", "%s can be read by its group: is that meant? chmod 600 keeps it to its owner", raw.KeyFile)
		}
		e.FileKeys = lines
		for _, line := range lines {
			add("key_file", line)
		}
	}
	seals := len(keys) > 0
	for i, old := range raw.OldKeys {
		add(fmt.Sprintf("old_keys[%d]", i), old)
	}
	if !ok {
		return e
	}
	var err error
	if e.Keys, err = seal.NewRing(seals, keys...); err != nil {
		fail("old_keys", "%v", err)
	}
	return e
}

// readKeyFile returns the keys in a file, a line each, and whether its group can read it. One that everybody can read is an error: a key that others have
// seen protects nothing.
func readKeyFile(path string) (lines []Secret, group bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, false, fmt.Errorf("%s is not there: router keygen prints a key to put into it", path)
	case err != nil:
		return nil, false, err
	case !info.Mode().IsRegular() || info.Size() > maxKeyFileBytes:
		return nil, false, fmt.Errorf("%s is no file of keys", path)
	case info.Mode()&0o007 != 0:
		return nil, false, fmt.Errorf("%s is open to everybody on this machine (mode %04o): make another key, and chmod 600 its file", path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, false, err
	}
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); {
		if line := strings.TrimSpace(scan.Text()); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, Secret(line))
		}
	}
	if len(lines) == 0 {
		return nil, false, fmt.Errorf("%s has no key in it: router keygen prints one", path)
	}
	return lines, info.Mode()&0o040 != 0, nil
}

// secrets are the keys as they stand in the files.
func (e *Encryption) secrets() []Secret {
	return append(append([]Secret{e.Key}, e.FileKeys...), e.OldKeys...)
}
