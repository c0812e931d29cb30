// The Vault HTTP API on an in-memory store, for tests on loopback. For tests only: the root token is "root".
package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/hashicorp/go-hclog"
	aead "github.com/hashicorp/go-kms-wrapping/wrappers/aead/v2"
	k8s "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/helper/namespace"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
	"github.com/hashicorp/vault/vault/seal"
)

type noPlugins struct{}

func (noPlugins) Contains(string, consts.PluginType) bool { return false }
func (noPlugins) Get(string, consts.PluginType) (func() (interface{}, error), bool) {
	return nil, false
}
func (noPlugins) Keys(consts.PluginType) []string                   { return nil }
func (noPlugins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
func (noPlugins) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, false
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func main() {
	addr := flag.String("listen", "127.0.0.1:8200", "loopback address for plain HTTP")
	tlsAddr := flag.String("tls-listen", "", "loopback address for TLS, which asks for client certificates")
	crt := flag.String("tls-cert", "", "PEM certificate for TLS")
	key := flag.String("tls-key", "", "PEM key for TLS")
	level := flag.String("log-level", "warn", "")
	flag.Parse()
	logger := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.LevelFromString(*level)})
	listeners := []net.Listener{must(net.Listen("tcp", *addr))}
	redirect := "http://" + *addr
	if *tlsAddr != "" {
		redirect = "https://" + *tlsAddr
		listeners = append(listeners, tls.NewListener(must(net.Listen("tcp", *tlsAddr)), &tls.Config{
			Certificates: []tls.Certificate{must(tls.LoadX509KeyPair(*crt, *key))},
			MinVersion:   tls.VersionTLS12, ClientAuth: tls.RequestClientCert,
			NextProtos: []string{"h2", "http/1.1"},
		}))
	}
	core := must(vault.NewCore(&vault.CoreConfig{
		Physical: must(inmem.NewInmem(nil, logger)), Logger: logger, DisableMlock: true,
		Seal:            vault.NewDefaultSeal(seal.NewAccess(aead.NewShamirWrapper())),
		RedirectAddr:    redirect,
		BuiltinRegistry: noPlugins{},
		LogicalBackends: map[string]logical.Factory{"kv": kv.Factory, "transit": transit.Factory},
		CredentialBackends: map[string]logical.Factory{
			"approle": approle.Factory, "cert": cert.Factory, "kubernetes": k8s.Factory,
		},
	}))
	ctx := namespace.ContextWithNamespace(context.Background(), namespace.RootNamespace)
	init := must(core.Initialize(ctx, &vault.InitParams{
		BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
	}))
	unsealKey := hex.EncodeToString(init.SecretShares[0])
	must(core.Unseal(init.SecretShares[0]))
	must(core.HandleRequest(ctx, &logical.Request{
		ID: "setup", Operation: logical.UpdateOperation, ClientToken: init.RootToken, Path: "auth/token/create",
		Data: map[string]interface{}{"id": "root", "policies": []string{"root"}, "no_parent": true},
	}))
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core: core, ListenerConfig: &configutil.Listener{Type: "tcp"},
	})
	fmt.Printf("unseal-key %s\nready\n", unsealKey)
	ended := make(chan error)
	for _, listener := range listeners {
		go func() { ended <- http.Serve(listener, handler) }()
	}
	log.Fatal(<-ended)
}
