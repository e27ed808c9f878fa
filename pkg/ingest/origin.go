package ingest

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

var refuseOrigin = &refusal{
	status: fasthttp.StatusForbidden, reason: reasonOrigin, message: "Events from this origin are not accepted",
	detail: "the API key takes events with its client secret from pages of its origins only; to allow this one, add it to origins of the key",
}

// checkOrigin refuses what is posted with the client secret of a key with enforce_origins, but not from a page of its origins. Where a page's
// request has no Origin, as that of an image, the Referer tells the page. One that has neither is refused too: a page can keep a browser from sending
// either, and an app needs a key of its own.
func (a access) checkOrigin(ctx *fasthttp.RequestCtx) *refusal {
	if !a.key.enforceOrigins || a.server {
		return nil
	}
	from := ctx.Request.Header.Peek(fasthttp.HeaderOrigin)
	if len(from) == 0 {
		from = ctx.Request.Header.Peek(fasthttp.HeaderReferer)
	}
	if len(from) == 0 || bytes.Equal(from, originNull) || !a.key.allows(from, ctx.Host()) {
		return refuseOrigin
	}
	return nil
}

// originNull is what a browser says of pages that have none, such as those of a sandboxed frame.
var originNull = []byte("null")
