// A Kubernetes API server and its etcd in one process, for tests on loopback: Secrets, RBAC, TokenRequest and TokenReview are the
// real ones. No controllers run.
//
// usage: kubernetes FOLDER SECURE-PORT PLAIN-PORT
//
// The secure port is the API server's own. The plain one forwards to it without TLS, for the tests' own setup. FOLDER gets
// ca.pem, which the server's certificate is from.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: kubernetes FOLDER SECURE-PORT PLAIN-PORT")
	}
	folder, secure, plain := os.Args[1], os.Args[2], os.Args[3]
	in := func(name string) string { return filepath.Join(folder, name) }

	ca, caKey := certificate(nil, nil)
	leaf, leafKey := certificate(ca, caKey)
	write(in("ca.pem"), "CERTIFICATE", ca.Raw)
	write(in("server.pem"), "CERTIFICATE", leaf.Raw)
	write(in("server.key"), "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(leafKey)))
	// RSA, as in most clusters: it makes the longest tokens.
	accounts := must(rsa.GenerateKey(rand.Reader, 2048))
	write(in("accounts.key"), "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(accounts)))
	if err := os.WriteFile(in("tokens.csv"), []byte("admin,admin,1,\"system:masters\"\n"), 0o600); err != nil {
		log.Fatal(err)
	}

	etcd := startEtcd(in("etcd"))
	go forward(plain, secure, ca)

	server := app.NewAPIServerCommand()
	server.SetArgs([]string{
		"--etcd-servers=http://" + etcd,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + secure,
		"--cert-dir=" + folder, "--tls-cert-file=" + in("server.pem"), "--tls-private-key-file=" + in("server.key"),
		"--token-auth-file=" + in("tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + in("accounts.key"), "--service-account-signing-key-file=" + in("accounts.key"),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
	})
	os.Exit(cli.Run(server))
}

// startEtcd gives the address of a store that loses everything when its process ends.
func startEtcd(folder string) string {
	loopback := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config := embed.NewConfig()
	config.Dir = folder
	config.LogLevel = "error"
	config.LogOutputs = []string{"stderr"}
	config.UnsafeNoFsync = true
	config.EnableGRPCGateway = false
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{loopback}, []url.URL{loopback}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{loopback}, []url.URL{loopback}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd := must(embed.StartEtcd(config))
	<-etcd.Server.ReadyNotify()
	return etcd.Clients[0].Addr().String()
}

// forward takes plain requests to the API server.
func forward(plain, secure string, ca *x509.Certificate) {
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: "127.0.0.1:" + secure})
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	// The server is asked before it is there: that is nothing to write down.
	proxy.ErrorLog = log.New(must(os.OpenFile(os.DevNull, os.O_WRONLY, 0)), "", 0)
	listener := must(net.Listen("tcp", "127.0.0.1:"+plain))
	fmt.Println("forwarding")
	log.Fatal(http.Serve(listener, proxy))
}

// certificate makes a CA, or what a CA issues for this machine.
func certificate(issuer *x509.Certificate, issuerKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber:          must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))),
		Subject:               pkix.Name{CommonName: "kubernetes-ca"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(30 * 24 * time.Hour),
		BasicConstraintsValid: true,
	}
	if issuer == nil {
		template.IsCA = true
		template.KeyUsage = x509.KeyUsageCertSign
		issuer, issuerKey = template, key
	} else {
		template.Subject.CommonName = "kube-apiserver"
		template.KeyUsage = x509.KeyUsageDigitalSignature
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		template.DNSNames = []string{"localhost"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der := must(x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey))
	return must(x509.ParseCertificate(der)), key
}

func write(path, kind string, bytes []byte) {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		log.Fatal(err)
	}
}
