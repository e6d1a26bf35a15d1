// The graph of who talks to whom, with its twin as a table: what cannot be read as a picture is read there.

import { DescriptionList, Stack, StackItem } from '@patternfly/react-core';
import {
  createTopologyControlButtons,
  defaultControlButtonsOptions,
  GRAPH_LAYOUT_END_EVENT,
  SELECTION_EVENT,
  TopologyControlBar,
  TopologySideBar,
  TopologyView,
  Visualization,
  VisualizationProvider,
  VisualizationSurface,
} from '@patternfly/react-topology';
import { useEffect, useMemo, useState } from 'react';
import { ago } from '../api/amounts';
import { useAsked } from '../api/live';
import type { Traffic, TrafficEdge } from '../api/types';
import { EdgeTable, sentence } from '../parts/edges';
import { Item } from '../parts/item';
import { StateMark } from '../parts/marks';
import { Await, Nothing } from '../parts/states';
import { components, edgeId, layouts, model } from '../parts/topology';
import type { Route } from '../route';
import { text } from '../text';

/** Around all nodes, in pixels. */
const MARGIN = 80;

function Panel({ edge, close }: { edge: TrafficEdge; close: () => void }) {
  const lines = (list: string[]) => (list.length === 0 ? '–' : list.map((one) => <div key={one}>{one}</div>));
  return (
    <TopologySideBar show header={`${edge.from} → ${edge.to}`} onClose={close}>
      <DescriptionList isCompact className="mutua-panel">
        <Item name={text.wireShows}>
          <StateMark state={edge.state} why={sentence(edge)} /> {sentence(edge)}
        </Item>
        <Item name="Services">{lines(edge.services)}</Item>
        <Item name="Ports">{edge.ports.join(', ') || '–'}</Item>
        <Item name="TLS">
          {lines(edge.protections.map((one) => `${one.connections} × ${one.tlsVersion}, ${one.cipher}, ${one.group}`))}
        </Item>
        <Item name="Caller’s identity">{lines(edge.fromIdentities)}</Item>
        <Item name="Called identity">{lines(edge.toIdentities)}</Item>
        <Item name="Refused or cut">
          {lines(edge.failures.map((one) => `${one.count} × ${one.code}, told by the ${one.reporter}`))}
        </Item>
        <Item name="Seen">
          first {ago(edge.firstSeen)}, last {ago(edge.lastSeen)}, by {edge.reporters.join(' and ')}
        </Item>
      </DescriptionList>
    </TopologySideBar>
  );
}

/** All of it, as soon as the surface knows its size. */
function show(controller: Visualization) {
  const { width } = controller.getGraph().getDimensions();
  if (width > MARGIN) controller.getGraph().fit(MARGIN);
  else requestAnimationFrame(() => show(controller));
}

function Picture({ traffic }: { traffic: Traffic }) {
  const [selected, setSelected] = useState<string[]>([]);
  const controller = useMemo(() => {
    const made = new Visualization();
    made.registerComponentFactory(components);
    made.registerLayoutFactory(layouts);
    made.addEventListener(SELECTION_EVENT, setSelected);
    let shown = '';
    made.addEventListener(GRAPH_LAYOUT_END_EVENT, () => {
      // Who has moved the picture keeps it where it is until somebody comes or goes.
      const nodes = made.getGraph().getNodes().map((node) => node.getId()).join(' ');
      if (nodes !== shown) show(made);
      shown = nodes;
    });
    return made;
  }, []);
  const next = useMemo(() => model(traffic), [traffic]);
  useEffect(() => {
    // With the same elements only what they show changes; the layout stays.
    controller.fromModel(next, true);
  }, [controller, next]);
  const edge = traffic.edges.find((one) => selected.includes(edgeId(one)));
  const graph = () => controller.getGraph();
  const buttons = createTopologyControlButtons({
    ...defaultControlButtonsOptions,
    legend: false,
    zoomInCallback: () => graph().scaleBy(4 / 3),
    zoomOutCallback: () => graph().scaleBy(3 / 4),
    fitToScreenCallback: () => graph().fit(MARGIN),
    resetViewCallback: () => {
      graph().reset();
      graph().layout();
    },
  });
  return (
    <div className="mutua-graph">
      <TopologyView
        sideBar={edge && <Panel edge={edge} close={() => setSelected([])} />}
        controlBar={<TopologyControlBar controlButtons={buttons} />}
      >
        <VisualizationProvider controller={controller}>
          <VisualizationSurface state={{ selectedIds: selected }} />
        </VisualizationProvider>
      </TopologyView>
    </div>
  );
}

export function Graph({ route: { window } }: { route: Route }) {
  const asked = useAsked<Traffic>(`traffic?window=${window}`, true);
  return (
    <Await asked={asked}>
      {(traffic) =>
        traffic.edges.length === 0 ? (
          <Nothing title={text.nothing.traffic} hint={text.nothing.traffic_hint} />
        ) : (
          <Stack hasGutter>
            <StackItem>
              <Picture traffic={traffic} />
            </StackItem>
            <StackItem>
              <EdgeTable edges={traffic.edges} window={window} caption="The same as a table" />
            </StackItem>
          </Stack>
        )
      }
    </Await>
  );
}
