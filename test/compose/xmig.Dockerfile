FROM scratch
COPY bin/xmig /xmig
ENTRYPOINT ["/xmig"]
