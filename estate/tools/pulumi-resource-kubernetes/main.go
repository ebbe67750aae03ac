// The provider's own command embeds files that its module zip lacks (generated SDK metadata), so serve it
// from here. The schema is only used to generate SDKs; deployments do not read it.
package main

import "github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"

func main() {
	provider.Serve("kubernetes", "4.25.0", []byte("{}"), []byte("{}"))
}
