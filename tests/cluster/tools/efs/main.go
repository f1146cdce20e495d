// Command efs-csi is the node part of Amazon's EFS CSI driver, with kubelet's registration in the same process.
//
// The driver's own command keeps its files in /etc and leaves the registration to a sidecar.
package main

import (
	"context"
	"flag"
	"net"
	"os"

	"github.com/kubernetes-sigs/aws-efs-csi-driver/pkg/driver"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

type registrar struct {
	socket string
}

func (r registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: "efs.csi.aws.com", Endpoint: r.socket, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (registrar) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	klog.Infof("kubelet registered the driver: %v %s", status.PluginRegistered, status.Error)
	return &registration.RegistrationStatusResponse{}, nil
}

func register(at, socket string) {
	os.Remove(at)
	listener, err := net.Listen("unix", at)
	if err != nil {
		klog.Fatal(err)
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, registrar{socket: socket})
	klog.Fatal(server.Serve(listener))
}

func main() {
	socket := flag.String("socket", "", "where the driver listens")
	registrations := flag.String("registration-socket", "", "where kubelet looks for it")
	files := flag.String("files", "", "a folder for efs-utils' configuration")
	static := flag.String("static-files", "", "a folder with what is copied there")
	klog.InitFlags(nil)
	flag.Parse()
	os.Remove(*socket)
	go register(*registrations, *socket)
	klog.Fatal(driver.NewDriver("unix:"+*socket, *files, *static, "", false, 240, 5, false).Run())
}
