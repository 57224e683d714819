FROM scratch
COPY bin/nats-server /nats-server
COPY bin/xmig /xmig
COPY test/compose/nats.conf /nats.conf
ENTRYPOINT ["/nats-server"]
