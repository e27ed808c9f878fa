package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/valyala/fasthttp"
)

const (
	// maxStaticBytes bounds one file: what is served is the SDK's scripts, which have some 100 KB.
	maxStaticBytes = 4 << 20
	// maxStaticFiles bounds how many are kept in memory; of more, each is read when it is asked for.
	maxStaticFiles = 32
	// staticMaxAge is how long browsers keep a file without asking: that of a new SDK reaches them so soon.
	staticMaxAge = "public, max-age=600"
)

// static serves the files that stand directly in one folder, from memory: a file is read again when its size or time has changed.
type static struct {
	root *os.Root // holds symbolic links to what is inside

	mu    sync.Mutex // guards files
	files map[string]*staticFile
}

// staticFile is one state of a file. It is never changed.
type staticFile struct {
	size     int64
	modified time.Time

	kind          string
	plain, zipped []byte // zipped is nil where that saves nothing
	tag           string // hash of plain, without quotes
}

func openStatic(dir string) (*static, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &static{root: root, files: map[string]*staticFile{}}, nil
}

// staticName is the file that a path of /s/, /t/ or /p/ names, or that stands where a web page looks for Jitsu's second SDK or Segment's, or Segment's for
// its own further parts; ok is false for other paths.
func staticName(path []byte) (name string, ok bool) {
	if string(path) == "/p.js" {
		return "p.js", true
	}
	if rest, segment := bytes.CutPrefix(path, []byte("/analytics.js/v1/")); segment { // a write key, which is in the web page anyway, and the file
		_, file, ok := bytes.Cut(rest, []byte{'/'})
		return string(file), ok
	}
	if file, bundle := bytes.CutPrefix(path, []byte("/analytics-next/bundles/")); bundle {
		return string(file), true
	}
	if len(path) < len("/s/") || path[0] != '/' || path[2] != '/' || path[1] != 's' && path[1] != 't' && path[1] != 'p' {
		return "", false
	}
	return string(path[len("/s/"):]), true
}

// staticFile answers a request for a file; false: the path is none of theirs. Every site may read them, and ask whether it may.
func (s *Server) staticFile(ctx *fasthttp.RequestCtx, path []byte) bool {
	name, ok := staticName(path)
	get := ctx.IsGet() || ctx.IsHead()
	if !ok || !get && !ctx.IsOptions() {
		return false
	}
	allowAll(ctx)
	if !get {
		return true
	}
	if s.static == nil {
		s.noFile(ctx, "this router serves no files: set server.static_files_dir to the folder that holds "+shown(name))
		return true
	}
	f, err := s.static.file(name)
	switch {
	case errors.Is(err, errNoFile):
		s.noFile(ctx, "server.static_files_dir holds no file "+shown(name))
	case err != nil:
		s.opts.Logger.Warn("a static file can not be served", "file", name, "error", err)
		s.noFile(ctx, "the file "+shown(name)+" can not be served; the router's log says why")
	default:
		f.answer(ctx)
	}
	return true
}

// shown is a name out of a request as an answer may repeat it.
func shown(name string) string {
	if !isFileName(name) {
		return "of that name"
	}
	return name
}

func (s *Server) noFile(ctx *fasthttp.RequestCtx, why string) {
	s.metrics.rejected[reasonRoute].Inc()
	answerText(ctx, fasthttp.StatusNotFound, "404 page not found: "+why)
}

func allowAll(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.SetCanonical(headerMaxAge, corsMaxAge)
	h.SetCanonical(headerMethods, corsMethods)
	h.SetCanonical(headerHeaders, corsHeaders)
	h.SetCanonical(headerCredentials, corsTrue)
	h.SetCanonical(headerACAO, []byte("*"))
}

var errNoFile = errors.New("no such file")

// isFileName says whether a file of this name is served at all: a plain name, not hidden, as web servers write them.
func isFileName(name string) bool {
	if name == "" || len(name) > 128 || name[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-@+~", r))
	})
}

// file returns the file as it is now.
func (s *static) file(name string) (*staticFile, error) {
	if !isFileName(name) {
		return nil, errNoFile
	}
	info, err := s.root.Stat(name) // first: to open a pipe waits for its other end
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errNoFile
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errNoFile
	case info.Size() > maxStaticBytes:
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, info.Size(), maxStaticBytes)
	}
	s.mu.Lock()
	f := s.files[name]
	s.mu.Unlock()
	if f != nil && f.size == info.Size() && f.modified.Equal(info.ModTime()) {
		return f, nil
	}
	if f, err = s.read(name, info); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.files[name]; known || len(s.files) < maxStaticFiles {
		s.files[name] = f
	}
	return f, nil
}

func (s *static) read(name string, info fs.FileInfo) (*staticFile, error) {
	file, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxStaticBytes))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	f := &staticFile{
		size: info.Size(), modified: info.ModTime(), plain: data, kind: contentType(name), tag: hex.EncodeToString(sum[:8]),
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write(data) // a buffer takes everything
	_ = w.Close()
	if zipped.Len() < len(data) {
		f.zipped = zipped.Bytes()
	}
	return f, nil
}

// contentTypes are of the files that belong to a script on a page. The system's table differs from machine to machine.
var contentTypes = map[string]string{
	".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8", ".cjs": "text/javascript; charset=utf-8",
	".map": "application/json", ".json": "application/json", ".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8",
	".txt": "text/plain; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg",
	".ico": "image/x-icon", ".wasm": "application/wasm", ".woff2": "font/woff2",
}

func contentType(name string) string {
	if kind := contentTypes[strings.ToLower(path.Ext(name))]; kind != "" {
		return kind
	}
	return "application/octet-stream"
}

// answer sends the file, or says that the client has it.
func (f *staticFile) answer(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	zip := f.zipped != nil && ctx.Request.Header.HasAcceptEncoding("gzip")
	tag := `"` + f.tag + `"`
	if zip {
		tag = `"` + f.tag + `-gzip"`
	}
	h.Set(fasthttp.HeaderETag, tag)
	h.Set(fasthttp.HeaderLastModified, f.modified.UTC().Format(http.TimeFormat))
	h.Set(fasthttp.HeaderCacheControl, staticMaxAge)
	h.Set(fasthttp.HeaderVary, fasthttp.HeaderAcceptEncoding)
	h.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	if f.known(ctx, tag) {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return
	}
	h.SetContentType(f.kind)
	body := f.plain
	if zip {
		h.Set(fasthttp.HeaderContentEncoding, "gzip")
		body = f.zipped
	}
	ctx.Response.SetBodyRaw(body)
}

// known says whether the client has this state of the file. A tag goes before a time.
func (f *staticFile) known(ctx *fasthttp.RequestCtx, tag string) bool {
	if tags := ctx.Request.Header.Peek(fasthttp.HeaderIfNoneMatch); len(tags) > 0 {
		for t := range bytes.SplitSeq(tags, []byte{','}) {
			if t = bytes.TrimPrefix(bytes.TrimSpace(t), []byte("W/")); string(t) == tag || string(t) == "*" {
				return true
			}
		}
		return false
	}
	since, err := http.ParseTime(string(ctx.Request.Header.Peek(fasthttp.HeaderIfModifiedSince)))
	return err == nil && !f.modified.Truncate(time.Second).After(since)
}
