package upload

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// State is how far a file was sent, kept in a small file so that a later run goes on there.
type State struct {
	File     string    `json:"file"`
	URL      string    `json:"url"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	ID       string    `json:"id"` // of the upload: a hash of the file's content
	Progress Progress  `json:"progress"`
	Done     bool      `json:"done"`
	At       time.Time `json:"at"` // when it was written

	path string
}

// ErrChanged is returned for a file that is not what was sent in part.
var ErrChanged = errors.New("has changed since part of it was sent")

// OpenState finds out how far a file was sent to a router. dir holds the states. fresh is for sending from the beginning, whatever was sent. The upload's
// name is made of the file's content: one that is sent again counts nothing twice even where its state is lost, and one with other content is another upload.
func OpenState(dir, file, url string, fresh bool) (*State, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	name := sha256.Sum256([]byte(path + "\x00" + url))
	now := &State{
		File: path, URL: url, Size: info.Size(), Modified: info.ModTime(), path: filepath.Join(dir, hex.EncodeToString(name[:12])+".json"),
	}
	var old State
	data, err := os.ReadFile(now.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	known := json.Unmarshal(data, &old) == nil && !fresh // what is not readable is as good as none
	if known && old.Size == now.Size && old.Modified.Equal(now.Modified) {
		old.path = now.path
		return &old, nil
	}
	if now.ID, err = contentID(path); err != nil {
		return nil, err
	}
	switch {
	case known && old.ID == now.ID:
		now.Progress, now.Done, now.At = old.Progress, old.Done, old.At
	case known && !old.Done && old.Progress.Line > 1:
		return nil, fmt.Errorf("%w (lines before %d, at %s)", ErrChanged, old.Progress.Line, old.At.Local().Format(time.DateTime))
	}
	return now, nil
}

// Save writes the state down.
func (s *State) Save(p Progress, done bool) error {
	s.Progress, s.Done, s.At = p, done, time.Now()
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(s.path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(s.path+".new", s.path)
}

// Unchanged says whether the file is still what it was when the state was opened.
func (s *State) Unchanged() bool {
	info, err := os.Stat(s.File)
	return err == nil && info.Size() == s.Size && info.ModTime().Equal(s.Modified)
}

// contentID is a hash of a file.
func contentID(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return "send-" + hex.EncodeToString(h.Sum(nil)[:16]), nil
}
