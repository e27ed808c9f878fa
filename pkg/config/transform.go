package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxScriptBytes bounds a transform file; the compiler's own bound is lower.
const maxScriptBytes = 1 << 20

// Script is a transform file that the configuration names.
type Script struct {
	Path string // as it was opened: absolute, or relative to the working directory
	Data []byte // what it held; nil: it could not be read
}

// transform returns the script of a destination and where it begins; "" when there is none, or it is switched off.
func (l *loader) transform(s Settings, raw dataLayout) (script string, at Pos) {
	const key, fileKey = "data_layout.transform", "data_layout.transform_file"
	switch {
	case raw.Transform != "" && raw.TransformFile != "":
		l.fail(s, fileKey, "stands beside transform; keep one of the two")
		return "", Pos{}
	case raw.TransformFile != "" && s.file != l.cfg.File:
		// Also where it is switched off. Who may write elsewhere may not read this machine's files.
		l.fail(s, fileKey, "can only be named in the configuration file itself; write the script into transform")
		return "", Pos{}
	case !raw.TransformEnabled:
		return "", Pos{}
	}
	script, at = raw.Transform, s.KeyPos(key)
	if raw.TransformFile != "" {
		path, text, err := l.script(raw.TransformFile)
		if err != nil {
			l.fail(s, fileKey, "%v", err)
			return "", Pos{}
		}
		script, at = text, Pos{File: path, Line: 1}
	}
	if strings.TrimSpace(script) == "" {
		return "", Pos{}
	}
	return script, at
}

// script reads a transform file, whose name is relative to the folder of the configuration file.
func (l *loader) script(name string) (path, text string, err error) {
	if strings.Contains(name, "://") {
		return "", "", errors.New("must be the name of a file, not a URL")
	}
	if path = name; !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(l.cfg.File), name)
	}
	data, err := l.scriptData(path)
	l.cfg.Scripts = append(l.cfg.Scripts, Script{path, data})
	if err == nil {
		err = checkScript(path, data)
	}
	return path, string(bytes.TrimPrefix(data, []byte("\uFEFF"))), err
}

func (l *loader) scriptData(path string) ([]byte, error) {
	if l.readScript != nil {
		if data, err := l.readScript(path); !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
	}
	return ReadScript(path)
}

// ReadScript reads a transform file: at most so much of it that it is seen to be too long. Its error names the file.
func ReadScript(path string) ([]byte, error) {
	// Looked at before it is opened, since to open a pipe waits for who writes to it.
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s; names are relative to the folder of the configuration file", path)
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a folder, and must be a file", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s must be a file, which it is not", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxScriptBytes+1))
	if data == nil {
		data = []byte{}
	}
	return data, err
}

// checkScript finds what can be no script. One that is empty would let all events pass as they are: that is to be said by leaving it out.
func checkScript(path string, data []byte) error {
	switch {
	case len(data) > maxScriptBytes:
		return fmt.Errorf("%s is longer than 1 MiB", path)
	case len(bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\uFEFF")))) == 0:
		return fmt.Errorf("%s is empty; without transform_file events stay as they are", path)
	case utf8.Valid(data):
		return nil
	}
	line := 1
	for rest := data; ; line++ {
		first, after, _ := bytes.Cut(rest, []byte("\n"))
		if !utf8.Valid(first) {
			return fmt.Errorf("%s is no text in UTF-8, in its line %d", path, line)
		}
		rest = after
	}
}
