package ingest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/valyala/fasthttp"
)

// maxOtherFields bounds what an upload's form may hold beside the file, names included.
const maxOtherFields = 64 << 10

// The beginnings of Jitsu's messages.
const (
	noFile     = "failed to read 'file' form parameter: "
	badPayload = "failed to read payload from input file: "
)

func payloadProblem(text, detail string) error {
	return payloadError{&refusal{status: fasthttp.StatusBadRequest, reason: reasonBody, message: text, detail: detail}}
}

// openPayload returns the text of an upload: its body, or the file in its form, decompressed where it is gzip. Nothing is kept but
// small buffers.
func openPayload(h *fasthttp.RequestHeader, body io.Reader) (io.Reader, error) {
	text, err := gunzipped(body, string(h.Peek(fasthttp.HeaderContentEncoding)))
	if err != nil {
		return nil, err
	}
	kind, params, err := mime.ParseMediaType(string(h.ContentType()))
	if kind != "multipart/form-data" {
		return text, nil // whatever else it calls itself
	}
	if err != nil || params["boundary"] == "" {
		return nil, payloadProblem(noFile+"no multipart boundary param in Content-Type", "")
	}
	form := &formFile{parts: multipart.NewReader(text, params["boundary"])}
	if err := form.open(); err != nil {
		return nil, err
	}
	return gunzipped(form, form.part.Header.Get(fasthttp.HeaderContentEncoding))
}

// gunzipped decompresses r if it begins as gzip does; its declared encoding, which proxies leave and clients forget, must only be none that
// we do not know.
func gunzipped(r io.Reader, encoding string) (io.Reader, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity", "gzip", "x-gzip":
	default:
		return nil, payloadProblem(badPayload+"only 'gzip' encoding is supported", "")
	}
	buffered := bufio.NewReaderSize(r, 32<<10)
	if begin, _ := buffered.Peek(len(gzipMagic)); string(begin) != string(gzipMagic) {
		return buffered, nil // an error comes again when it is read
	}
	z, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, gzipProblem(err)
	}
	return gzipText{z}, nil
}

// gzipText has payloadErrors.
type gzipText struct{ z *gzip.Reader }

// Read implements [io.Reader].
func (t gzipText) Read(p []byte) (int, error) {
	n, err := t.z.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = gzipProblem(err)
	}
	return n, err
}

func gzipProblem(err error) error {
	if known, ok := errors.AsType[payloadError](err); ok {
		return known
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return payloadProblem(badPayload+"gzip: "+err.Error(), "")
}

// formFile is the field `file` of a form. Other fields are passed over.
type formFile struct {
	parts *multipart.Reader
	part  *multipart.Part
	other int64 // bytes of other fields so far
}

// open goes forward to the field.
func (f *formFile) open() error {
	for {
		part, err := f.next()
		if errors.Is(err, io.EOF) {
			return payloadProblem(noFile+"http: no such file", "the form has no field of that name")
		}
		if err != nil {
			return err
		}
		if part.FormName() == "file" {
			f.part = part
			return nil
		}
	}
}

// next returns the next part, behind the rest of the one before, which counts as another field.
func (f *formFile) next() (*multipart.Part, error) {
	part, err := f.parts.NextRawPart()
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case err != nil:
		return nil, formProblem(err)
	case part.FormName() == "file":
		return part, nil
	}
	n, err := io.Copy(io.Discard, io.LimitReader(part, maxOtherFields))
	if err != nil {
		return nil, formProblem(err)
	}
	if f.other += n + int64(len(part.FormName())); f.other >= maxOtherFields {
		return nil, payloadProblem(noFile+fmt.Sprintf("other fields exceed limit: %d", maxOtherFields), "send the events in the field named file")
	}
	return part, nil
}

// Read implements [io.Reader]: the file. It ends where the form ends, so that a form that was cut off is no whole file.
func (f *formFile) Read(p []byte) (int, error) {
	n, err := f.part.Read(p)
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		return n, formProblem(err)
	}
	for {
		part, err := f.next()
		if err != nil {
			return n, err
		}
		if part.FormName() == "file" {
			return n, payloadProblem(noFile+"the form has more than one", "send each file in a request of its own")
		}
	}
}

// formProblem says that a form is none, without its bytes.
func formProblem(err error) error {
	if known, ok := errors.AsType[payloadError](err); ok {
		return known
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return payloadProblem(noFile+"multipart: unexpected EOF", "the form does not end with its boundary")
	}
	return payloadProblem(noFile+"malformed multipart form", "")
}
