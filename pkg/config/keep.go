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

// Keep keeps a version of a in a data directory, in place of the one before. It is on disk when Keep returns. The file holds secrets and is for its
// owner alone.
func Keep(dataDir string, a Address, v Version) error {
	data, err := json.Marshal(keptVersion{a.sum(), v.At.UTC(), hexSum(v.Body), v.Body})
	if err != nil {
		return err
	}
	path := keptPath(dataDir, a.Part)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := syncDir(dataDir); err != nil { // the folder's own name
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
func Kept(dataDir string, a Address) (Version, error) {
	data, err := readFile(keptPath(dataDir, a.Part), 2*maxElsewhereBytes)
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
	return Version{Body: kept.Body, At: kept.At}, nil
}
