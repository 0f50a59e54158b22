/* SPDX-License-Identifier: GPL-2.0-only */
/* Macros the kernel's BTF cannot carry, each once. Values: include/uapi/linux. */
#ifndef TIDEMARK_UAPI_BPF_H
#define TIDEMARK_UAPI_BPF_H

#define TC_ACT_UNSPEC (-1) /* tc: go on with the next filter; tcx: the same, TCX_NEXT */
#define TC_ACT_SHOT 2

#define ETH_P_IP 0x0800
#define ETH_P_TEB 0x6558 /* Ethernet in GRE and GENEVE */
#define ETH_P_ARP 0x0806
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
#define ETH_P_QINQ1 0x9100 /* what tags were called before 802.1ad */
#define ETH_P_QINQ2 0x9200
#define ETH_P_MPLS_UC 0x8847
#define ETH_P_MPLS_MC 0x8848

#define PACKET_OTHERHOST 3

#define IPPROTO_HOPOPTS 0
#define IPPROTO_ICMP 1
#define IPPROTO_IPIP 4
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_IPV6 41
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_GRE 47
#define IPPROTO_AH 51
#define IPPROTO_ICMPV6 58
#define IPPROTO_DCCP 33
#define IPPROTO_SCTP 132
#define IPPROTO_UDPLITE 136
#define IPPROTO_DSTOPTS 60
#define IPPROTO_MH 135

#define IP_MF 0x2000
#define IP_OFFSET 0x1fff
#define IP6_MF 0x0001
#define IP6_OFFSET 0xfff8

#define ICMP_ECHOREPLY 0
#define ICMP_ECHO 8
#define ICMPV6_TOO_BIG 2
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129

#define MPLS_BOTTOM 0x100 /* of the labels */

#define PORT_VXLAN 4789
#define PORT_VXLAN_OLD 8472
#define PORT_GENEVE 6081

#define GRE_CSUM 0x8000
#define GRE_KEY 0x2000
#define GRE_SEQ 0x1000
#define GRE_VERSION 0x0007

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define TCP_ESTABLISHED 1
#define TCP_CLOSE 7
#define TCP_CONGESTION 13

/* enum of struct bpf_sock_ops.op, and what a socket can be asked to call for */
#define SOCK_OPS_TCP_CONNECT 3
#define SOCK_OPS_ACTIVE_ESTABLISHED 4
#define SOCK_OPS_PASSIVE_ESTABLISHED 5
#define SOCK_OPS_STATE 10
#define SOCK_OPS_RTT 12
#define SOCK_OPS_STATE_FLAG (1U << 2)
#define SOCK_OPS_RTT_FLAG (1U << 3)
#define BPF_ADJ_ROOM_NET 0
#define BPF_F_ADJ_ROOM_FIXED_GSO 1
/* No operation twice, then timestamps (RFC 7323, appendix A): what nearly all segments have. */
#define TCP_OPTIONS_USUAL 0x0101080a

#define AF_INET 2
#define AF_INET6 10

#endif
