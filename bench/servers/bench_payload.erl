%% Measured payloads: `#bench:<stream>:<seq>:<ns>#` and padding, see bench/README.md.
%%
%% Made in a few hundred nanoseconds: the publishing loop must not be what a burst measures.
-module(bench_payload).

-export([init/0, padding/1, make/3]).

-define(MARKER, 46).

%% Once per VM: the text of each 16-bit number.
init() ->
    Hex = [iolist_to_binary(string:lowercase(io_lib:format("~4.16.0b", [N]))) || N <- lists:seq(0, 65535)],
    persistent_term:put(?MODULE, list_to_tuple(Hex)).

%% What follows the marker in a payload of that size.
padding(Size) ->
    binary:copy(<<"x">>, max(0, Size - ?MARKER)).

make(Stream, Seq, Padding) ->
    Hex = persistent_term:get(?MODULE),
    <<S1:16, S2:16, S3:16, S4:16>> = <<Seq:64>>,
    <<T1:16, T2:16, T3:16, T4:16>> = <<(os:system_time(nanosecond)):64>>,
    <<"#bench:", (element(Stream + 1, Hex))/binary, ":",
      (element(S1 + 1, Hex))/binary, (element(S2 + 1, Hex))/binary,
      (element(S3 + 1, Hex))/binary, (element(S4 + 1, Hex))/binary, ":",
      (element(T1 + 1, Hex))/binary, (element(T2 + 1, Hex))/binary,
      (element(T3 + 1, Hex))/binary, (element(T4 + 1, Hex))/binary, "#", Padding/binary>>.
