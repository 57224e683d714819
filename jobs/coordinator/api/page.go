package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"net/http"
)

//go:embed page.html
var pageHTML []byte

// page is the one page: it asks /v1/overview and shows it. It holds no data
// itself, so everybody may have it.
type page struct {
	html   []byte
	policy string // lets its own script and style run, and nothing else
}

func newPage() page {
	hash := func(tag string) string {
		_, rest, _ := bytes.Cut(pageHTML, []byte("<"+tag+">"))
		inner, _, _ := bytes.Cut(rest, []byte("</"+tag+">"))
		sum := sha256.Sum256(inner)
		return base64.StdEncoding.EncodeToString(sum[:])
	}
	return page{html: pageHTML, policy: fmt.Sprintf("default-src 'none'; script-src 'sha256-%s'; style-src 'sha256-%s'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		hash("script"), hash("style"))}
}

func (p page) serve(_ *Handler, w http.ResponseWriter, _ *http.Request, _ Client) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", p.policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(p.html)
}
