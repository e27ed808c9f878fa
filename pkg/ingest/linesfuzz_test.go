package ingest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

// found is a line as it is compared.
type found struct {
	Text    string
	Number  int64
	Problem string
	Broken  bool
}

// cutLines reads text through a buffer of the size, in reads of step bytes.
func cutLines(text []byte, limit, buffer, step int) (all []found) {
	l := newLines(&stepReader{text, step}, limit, 1, make([]byte, buffer))
	l.tooLongText = "too long"
	for {
		err := l.fill()
		for {
			ln, ok := l.next()
			if !ok {
				break
			}
			all = append(all, found{string(ln.of(l.buf)), ln.number, ln.problem, ln.broken})
			if ln.broken {
				return all
			}
		}
		if errors.Is(err, io.EOF) {
			return all
		}
	}
}

// stepReader gives step bytes at a time, and its last ones with io.EOF.
type stepReader struct {
	left []byte
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), r.step)], r.left)
	r.left = r.left[n:]
	if len(r.left) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// FuzzLines: wherever the pieces of a stream end, its lines are the same; and they are those of the text.
func FuzzLines(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "{}\n{}", "{}\r\n\r\n {} \n", "\ufeff{}\n", " \ufeff{}", "[{},{}]", " [ { \"a\" : [ ] } , {} ] ", "[]", "[", "[{}", "[{},]", "[{}{}]", "[{}] x",
		"[\"a\\\"]\", 1,tru ,null]", strings.Repeat("x", 90) + "\n{}", "[" + strings.Repeat("[", 90) + strings.Repeat("]", 90) + ",{}]", "[" + strings.Repeat("1", 90) + ",{}]",
		strings.Repeat(" ", 90) + "{}\n", strings.Repeat("{}\n", 90), "[" + strings.Repeat("{},", 90) + "{}]", "[1}", "[}", "{\"a\":\"" + strings.Repeat("\\", 90), "\xef\xbb",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		const limit = 40
		want := cutLines(text, limit, len(text)+limit+1, len(text)+1)
		for _, buffer := range []int{limit + 1, limit + 2, 2 * limit, 3*limit + 1} {
			for _, step := range []int{1, 2, 3, 7, 1000} {
				if diff := gocmp.Diff(want, cutLines(text, limit, buffer, step)); diff != "" {
					t.Fatalf("%q with a buffer of %d, in steps of %d (-whole +got):\n%s", text, buffer, step, diff)
				}
			}
		}
		plain := bytes.TrimPrefix(text, byteOrderMark)
		text = bytes.TrimLeft(plain, " \t\r\n") // which counts for nothing but the numbers
		if bytes.HasPrefix(text, []byte("[")) {
			return
		}
		var lines []found
		number := 1 + int64(bytes.Count(plain[:len(plain)-len(text)], []byte("\n")))
		for ln := range bytes.SplitSeq(text, []byte("\n")) {
			switch trimmed := bytes.Trim(ln, " \t\r"); {
			case len(ln) > limit:
				lines = append(lines, found{"", number, "too long", false})
			case len(trimmed) > 0:
				lines = append(lines, found{string(trimmed), number, "", false})
			}
			number++
		}
		if diff := gocmp.Diff(lines, want); diff != "" {
			t.Fatalf("%q (-lines +got):\n%s", text, diff)
		}
	})
}

// FuzzUpload: an upload never stores what it does not count, whatever its bytes are.
func FuzzUpload(f *testing.F) {
	for _, seed := range []string{
		"{}\n{\"a\":1}\n", "[{},{}]", "{}\nx\n{}", "[{},1,{}]", "{\"api_key\":1}\n{\"event_id\":\"x\"}", "{\"event\":{}}\n{\"malformed_event\":\"\"}", "{}{}", "\x1f\x8b",
	} {
		f.Add([]byte(seed), true, true)
		f.Add([]byte(seed), false, false)
	}
	f.Fuzz(func(t *testing.T, body []byte, skip, fallback bool) {
		log := &memoryLog{}
		s := newServer(t, testOptions(log))
		url := bulkPath
		if skip {
			url += "&skip_malformed=true"
		}
		if fallback {
			url += "&fallback=true"
		}
		ctx := requestOf(url, body)
		s.Handler(ctx)
		r := readReport(t, string(ctx.Response.Body()))
		evs := log.take(t)
		if r.Accepted != int64(len(evs)) || r.Received != r.Accepted+r.Rejected && ctx.Response.StatusCode() == 200 {
			t.Errorf("%d events stored: %+v", len(evs), r)
		}
		for _, ev := range evs {
			if _, ok := decoded(t, ev.JSON).(map[string]any); !ok || ev.ID == "" {
				t.Errorf("%q is stored with the id %q", ev.JSON, ev.ID)
			}
		}
	})
}

// requestOf is a request that was not read from a connection.
func requestOf(url string, body []byte) *fasthttp.RequestCtx {
	var req fasthttp.Request
	req.Header.SetMethod("POST")
	req.SetRequestURI(url)
	req.SetBody(body)
	ctx := &fasthttp.RequestCtx{}
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
	return ctx
}
