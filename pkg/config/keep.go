package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"eventrouter/pkg/seal"
)

// Version is what stood at an address at a time.
type Version struct {
	Body []byte
	At   time.Time // when the address was last seen to hold it
}

// keptVersion is the file of a kept version. Body is what the address sent, byte for byte: as text, it would have to be UTF-8.
type keptVersion struct {
	Address string    `json:"address_sha256"`
	At      time.Time `json:"at"`
	Sum     string    `json:"sha256"`
	Body    []byte    `json:"body"`
	Sealed  bool      `json:"sealed,omitempty"` // Body is, and Sum is of that
}

// ErrNotKept says that no version of an address is kept.
var ErrNotKept = errors.New("no version of it is kept")

// keptPath is where the version of a part is kept: one, of the address that the part has now.
func keptPath(dataDir, part string) string { return filepath.Join(dataDir, "elsewhere", part+".json") }

// sum covers the credentials as well: with others, the same URL may be another customer's.
func (a Address) sum() string {
	return hexSum([]byte(a.Part + "\x00" + string(a.raw) + "\x00" + string(a.token)))
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Keep keeps a version of a in the data directory of a server, in place of the one before. It is on disk when Keep returns. The file holds secrets: it is for its
// owner alone, and encrypted when there is a key.
func Keep(s Server, a Address, v Version) error {
	kept := keptVersion{Address: a.sum(), At: v.At.UTC(), Body: v.Body}
	if box := s.Encryption.Keys.Box("config"); box.Seals() {
		kept.Body, kept.Sealed = box.Seal(nil, v.Body, kept.name(a)), true
	}
	kept.Sum = hexSum(kept.Body)
	data, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	path := keptPath(s.DataDir, a.Part)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := syncDir(s.DataDir); err != nil { // the folder's own name
		return err
	}
	return writeDurably(path, data)
}

// writeDurably replaces a file whole: after a crash it is the old one or the new one.
func writeDurably(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Kept returns the kept version of a: ErrNotKept when there is none, be it that another address had the part.
func Kept(s Server, a Address) (Version, error) {
	data, err := readFile(keptPath(s.DataDir, a.Part), 2*maxElsewhereBytes)
	if errors.Is(err, os.ErrNotExist) {
		return Version{}, ErrNotKept
	}
	if err != nil {
		return Version{}, fmt.Errorf("read the kept version: %w", err)
	}
	var kept keptVersion
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&kept); err != nil || hexSum(kept.Body) != kept.Sum {
		return Version{}, errors.New("the kept version is damaged")
	}
	if kept.Address != a.sum() {
		return Version{}, ErrNotKept
	}
	if kept.Sealed {
		if kept.Body, err = s.Encryption.Keys.Box("config").Open(nil, kept.Body, kept.name(a)); err != nil {
			return Version{}, fmt.Errorf("the kept version: %w", err)
		}
	}
	return Version{Body: kept.Body, At: kept.At}, nil
}

// name binds a sealed body to its part.
func (k *keptVersion) name(a Address) seal.Name { return seal.Name{Kind: 'c', Text: a.Part} }

// Reseal writes the kept version of a anew where it is not sealed as the server's keys say: in plain, or with an old key. It does nothing when none is kept.
func Reseal(s Server, a Address) error {
	data, err := readFile(keptPath(s.DataDir, a.Part), 2*maxElsewhereBytes)
	var kept keptVersion
	if err != nil || json.Unmarshal(data, &kept) != nil {
		return nil // none, or one that Kept tells of
	}
	want, seals := s.Encryption.Keys.Sealing()
	if !kept.Sealed && !seals {
		return nil
	}
	if kept.Sealed {
		if id, err := seal.ID(kept.Body); err == nil && seals && id == want {
			return nil
		}
	}
	v, err := Kept(s, a)
	if errors.Is(err, ErrNotKept) {
		return nil // of another address: the next Keep replaces it
	}
	if err != nil {
		return err
	}
	return Keep(s, a, v)
}
