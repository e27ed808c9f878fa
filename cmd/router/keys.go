package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"eventrouter/pkg/config"
	"eventrouter/pkg/endusers"
)

type keysCmd struct {
	Generate keysGenerateCmd `cmd:"" help:"Make a pair of keys for the tokens of end users."`
}

type keysGenerateCmd struct {
	Type    string `enum:"ed25519,es256,rs256" default:"ed25519" help:"Kind of key: ed25519, es256 or rs256."`
	Private string `default:"private.pem" placeholder:"FILE" help:"File for the private key, which signs tokens. It stays with your server."`
	Public  string `default:"public.pem" placeholder:"FILE" help:"File for the public key, which the router verifies tokens with."`
}

// Help is shown by router keys generate --help.
func (keysGenerateCmd) Help() string {
	return `Writes two files, and overwrites none. The private key is for your own server, which signs a token for each of its users, and for router token; the router itself
needs the public one only:

  apps:
    crm:
      tokens:
        key_files: [public.pem]`
}

// Run implements the command.
func (c *keysGenerateCmd) Run(s streams) error {
	key, err := newSigningKey(c.Type)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.Public); !errors.Is(err, fs.ErrNotExist) {
		return usageError{fmt.Errorf("%s is there already: choose another name with --public", c.Public)}
	}
	if err := writeNew(c.Private, "PRIVATE KEY", private, 0o600, "--private"); err != nil {
		return err
	}
	if err := writeNew(c.Public, "PUBLIC KEY", public, 0o644, "--public"); err != nil {
		_ = os.Remove(c.Private)
		return err
	}
	fmt.Fprintf(s.out, `%s signs tokens: keep it where your own server finds it, and nowhere else.
%s verifies them: name it in the router's configuration, relative to the folder of that file.

apps:
  crm:
    tokens:
      key_files: [%s]

A token for a test: router token --app crm --account a1 --key %s
`, c.Private, c.Public, c.Public, c.Private)
	return nil
}

func newSigningKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "es256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rs256":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

// writeNew writes a file that must not be there yet, whole or not at all.
func writeNew(path, kind string, der []byte, mode fs.FileMode, flag string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	switch {
	case errors.Is(err, fs.ErrExist):
		return usageError{fmt.Errorf("%s is there already: choose another name with %s", path, flag)}
	case err != nil:
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Sync())
}

type tokenCmd struct {
	configFlag
	App      string        `required:"" placeholder:"NAME" help:"App of the configuration."`
	Account  string        `required:"" placeholder:"ID" help:"Account that the token speaks for, its sub."`
	Key      string        `required:"" placeholder:"FILE" help:"File with the private key in PEM, from router keys generate."`
	TTL      time.Duration `name:"ttl" default:"1h" help:"How long the token is good."`
	Audience string        `placeholder:"TEXT" help:"Its aud. Default: the app's tokens.audience, where there is a configuration."`
	Issuer   string        `placeholder:"TEXT" help:"Its iss. Default: the app's tokens.issuer, where there is a configuration."`
	Kid      string        `placeholder:"TEXT" help:"Id of the key, as the JWKS has it. Default: none."`
}

// Help is shown by router token --help.
func (tokenCmd) Help() string {
	return `Signs a token as your own server does, for tests, and prints it on standard output. Where there is a configuration the token is held against it, and what the router
would say is an error:

  curl -H "Authorization: Bearer $(router token --app crm --account a1 --key private.pem)" \
    -d '{"name": "Contact Created", "payload": {"email": "ada@example.com"}}' http://localhost:8001/api/v1/apps/crm/events`
}

// Run implements the command.
func (c *tokenCmd) Run(s streams) error {
	app, err := c.app()
	if err != nil {
		return err
	}
	key, method, err := signingKey(c.Key)
	if err != nil {
		return usageError{fmt.Errorf("--key: %s: %w", c.Key, err)}
	}
	now := time.Now()
	claims := jwt.MapClaims{"sub": c.Account, "iat": now.Unix(), "exp": now.Add(c.TTL).Unix()}
	if c.Audience == "" && app != nil {
		c.Audience = app.Tokens.Audience
	}
	if c.Issuer == "" && app != nil {
		c.Issuer = app.Tokens.Issuer
	}
	for name, value := range map[string]string{"aud": c.Audience, "iss": c.Issuer} {
		if value != "" {
			claims[name] = value
		}
	}
	token := jwt.NewWithClaims(method, claims)
	if c.Kid != "" {
		token.Header["kid"] = c.Kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if err := checkToken(app, text); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, text)
	return err
}

// app is the app of the configuration; nil: there is no file, and nobody has named one.
func (c *tokenCmd) app() (*config.App, error) {
	cfg, err := load(c.Config)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && c.Config == "router.yaml" {
			return nil, nil //nolint:nilnil // it may stand elsewhere
		}
		return nil, err
	}
	i := slices.IndexFunc(cfg.Apps, func(a config.App) bool { return a.Name == c.App })
	if i < 0 {
		return nil, usageError{fmt.Errorf("%s has no app %s", c.Config, c.App)}
	}
	return &cfg.Apps[i], nil
}

// checkToken says what the router would say of a token. Keys at a URL are not asked for: then nothing is said.
func checkToken(app *config.App, token string) error {
	if app == nil || app.Tokens.JWKSURL != "" {
		return nil
	}
	v, err := endusers.New(app.Tokens, endusers.Options{})
	if err != nil {
		return usageError{err}
	}
	if _, err := v.Verify([]byte(token)); err != nil {
		return usageError{fmt.Errorf("the router would not take it: %w", err)}
	}
	return nil
}

// maxKeyBytes bounds a key file.
const maxKeyBytes = 64 << 10

// signingKey reads a private key. No error shows any of it.
func signingKey(path string) (crypto.Signer, jwt.SigningMethod, error) {
	f, err := os.Open(path)
	if err != nil {
		if pathError, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathError.Err
		}
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyBytes))
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(data)
	switch {
	case block == nil:
		return nil, nil, errors.New("is no key in PEM")
	case strings.HasSuffix(block.Type, "PUBLIC KEY"):
		return nil, nil, errors.New("is a public key: tokens are signed with the private one")
	case strings.HasPrefix(block.Type, "ENCRYPTED"):
		return nil, nil, errors.New("is encrypted: openssl pkey -in FILE -out plain.pem decrypts it")
	}
	var key any
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, nil, errors.New("is no private key, or damaged")
	}
	switch k := key.(type) {
	case ed25519.PrivateKey:
		return k, jwt.SigningMethodEdDSA, nil
	case *rsa.PrivateKey:
		return k, jwt.SigningMethodRS256, nil
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			return k, jwt.SigningMethodES256, nil
		case elliptic.P384():
			return k, jwt.SigningMethodES384, nil
		case elliptic.P521():
			return k, jwt.SigningMethodES512, nil
		}
	}
	return nil, nil, errors.New("is a key of a kind that signs no tokens here: make one with router keys generate")
}
